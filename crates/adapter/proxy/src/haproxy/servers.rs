//! Rows of `show servers state`, which are also the rows of a server state file.

/// How such a text begins. HAProxy reads no other version.
const VERSION: &str = "1";
const HEADER: &str = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state ";

/// `srv_admin_state`: forced into maintenance, by configuration, by a tracked server, by name
/// resolution, or by a host name.
const MAINTENANCE: u32 = 0x01 | 0x02 | 0x04 | 0x20 | 0x40;
/// `srv_admin_state`: drained on command.
const DRAINED: u32 = 0x08;

/// A whole text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Servers {
    header: String,
    pub(crate) rows: Vec<Server>,
}

/// One server of one backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Server {
    pub(crate) backend: String,
    pub(crate) name: String,
    admin: u32,
    line: String,
}

impl Servers {
    /// None if the text is no state of servers.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        lines.next().filter(|line| line.trim() == VERSION)?;
        let header = lines.next().filter(|line| line.starts_with(HEADER))?.to_owned();
        let lines = lines.filter(|line| !line.trim().is_empty());
        let rows = lines.map(Server::parse).collect::<Option<Vec<_>>>()?;
        Some(Self { header, rows })
    }

    pub(crate) fn render(&self) -> String {
        let mut text = format!("{VERSION}\n{}\n", self.header);
        for row in &self.rows {
            text.push_str(&row.line);
            text.push('\n');
        }
        text
    }

    /// The same servers of this backend, in the same administrative states.
    pub(crate) fn agrees_with(&self, other: &Self, backend: &str) -> bool {
        let states = |servers: &Self| -> Vec<(String, u32)> {
            let mut states: Vec<(String, u32)> =
                servers.of(backend).map(|row| (row.name.clone(), row.admin)).collect();
            states.sort();
            states
        };
        states(self) == states(other)
    }

    /// This text with the rows of one backend taken from `other`.
    pub(crate) fn with_backend_of(&self, other: &Self, backend: &str) -> Self {
        let kept = self.rows.iter().filter(|row| row.backend != backend);
        let rows = kept.chain(other.of(backend)).cloned().collect();
        Self { header: other.header.clone(), rows }
    }

    pub(crate) fn of(&self, backend: &str) -> impl Iterator<Item = &Server> {
        self.rows.iter().filter(move |row| row.backend == backend)
    }
}

impl Server {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().take(7).collect();
        let admin = fields.get(6)?.parse().ok()?;
        let (backend, name) = ((*fields.get(1)?).to_owned(), (*fields.get(3)?).to_owned());
        Some(Self { backend, name, admin, line: line.trim_end().to_owned() })
    }

    /// Nobody has taken it out of service.
    pub(crate) fn admits(&self) -> bool {
        self.admin == 0
    }

    /// Drained on command, and not in maintenance as well: that is somebody else's decision.
    pub(crate) fn is_drained(&self) -> bool {
        self.admin & DRAINED != 0 && self.admin & MAINTENANCE == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rows: &str) -> String {
        format!("1\n{HEADER}srv_uweight\n{rows}\n")
    }

    #[test]
    fn rows_are_taken_apart_and_rendered_as_they_were() {
        let written = text("3 service 1 node 127.0.0.1 2 8 1\n4 other 1 node 127.0.0.1 2 0 1");
        let servers = Servers::parse(&written).unwrap();
        assert_eq!(servers.render(), written);
        assert!(servers.rows[0].is_drained() && !servers.rows[0].admits());
        assert!(servers.rows[1].admits());
        for noise in ["", "2\n", "1\n# something\n", &text("3 service 1 node 127.0.0.1 2 x 1")] {
            assert_eq!(Servers::parse(noise), None, "{noise:?}");
        }
    }

    #[test]
    fn maintenance_is_somebody_elses_decision() {
        let servers = Servers::parse(&text("3 service 1 node 127.0.0.1 2 9 1")).unwrap();
        assert!(!servers.rows[0].is_drained() && !servers.rows[0].admits());
    }

    #[test]
    fn rows_of_other_backends_stay() {
        let old = Servers::parse(&text("3 service 1 n a 2 0 1\n4 other 1 n a 2 1 1")).unwrap();
        let new = Servers::parse(&text("3 service 1 n a 2 8 1")).unwrap();
        assert!(!old.agrees_with(&new, "service"));
        let both = old.with_backend_of(&new, "service");
        assert!(both.agrees_with(&new, "service") && both.agrees_with(&old, "other"));
        assert_eq!(both.rows.len(), 2);
    }
}
