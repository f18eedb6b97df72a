//! Where files come from: web servers and directories, one directory for each release.
//!
//! ```text
//! <mirror>/<release name>/<artifact name>
//! ```

use std::fmt;
use std::path::PathBuf;

use heirloom_model::identifier::ReleaseName;
use ureq::http::Uri;

/// One place with the files of releases.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror(Place);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Directory(PathBuf),
    Web { base: String, authorities: Option<Authorities> },
}

/// Who vouches for mirrors that are reached over https.
///
/// The digests of a release hold whoever delivers it; TLS keeps others from seeing and delaying
/// what is fetched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Authorities {
    /// Those of the system.
    System,
    /// Exactly those of this PEM file.
    File(PathBuf),
}

/// Why text does not name a mirror.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is not a mirror: it is https://host/path, http://host/path or an absolute directory"
)]
pub struct ParseMirrorError {
    /// The text.
    pub text: String,
}

impl Mirror {
    /// Parses `https://host[:port][/path]`, `http://host[:port][/path]` or an absolute directory.
    pub fn parse(text: &str, authorities: &Authorities) -> Result<Self, ParseMirrorError> {
        let refused = || ParseMirrorError { text: text.to_owned() };
        if text.contains('\0') {
            return Err(refused());
        }
        if text.starts_with('/') {
            return Ok(Self(Place::Directory(PathBuf::from(text))));
        }
        let uri: Uri = text.parse().map_err(|_| refused())?;
        // Names are appended to the path: neither a query nor a fragment may swallow them. Names
        // and passwords do not belong into a configuration that everybody reads.
        let is_plain = uri.query().is_none() && !text.contains(['#', '@']);
        let authorities = match uri.scheme_str() {
            Some("https") => Some(authorities.clone()),
            Some("http") => None,
            _ => return Err(refused()),
        };
        if !is_plain || uri.host().is_none_or(str::is_empty) {
            return Err(refused());
        }
        Ok(Self(Place::Web { base: text.trim_end_matches('/').to_owned(), authorities }))
    }

    /// A directory.
    pub fn directory(path: PathBuf) -> Self {
        Self(Place::Directory(path))
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Directory(path) => write!(f, "{}", path.display()),
            Place::Web { base, .. } => f.write_str(base),
        }
    }
}

/// The address of a file. Names have no character that means anything in an address, and never
/// begin with a dot.
pub(crate) fn address(base: &str, release: &ReleaseName, artifact: &ReleaseName) -> String {
    format!("{base}/{release}/{artifact}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_plain_addresses_or_absolute_directories() {
        for good in [
            "https://releases.example",
            "https://releases.example:8443/heirloom/",
            "http://127.0.0.1:80",
            "/srv/releases",
        ] {
            assert!(Mirror::parse(good, &Authorities::System).is_ok(), "{good}");
        }
        for bad in [
            "",
            "releases",
            "./releases",
            "ftp://releases.example",
            "file:///srv/releases",
            "https://",
            "https:///path",
            "https://user@releases.example",
            "https://releases.example/?file=",
            "https://releases.example/#",
            "https://releases.example/a b",
            "/srv/\0releases",
        ] {
            let refused = ParseMirrorError { text: bad.to_owned() };
            assert_eq!(Mirror::parse(bad, &Authorities::System), Err(refused), "{bad}");
        }
    }

    #[test]
    fn only_https_asks_who_vouches_for_a_mirror() {
        let own = Authorities::File(PathBuf::from("/etc/heirloom/ca.pem"));
        let of = |text| match Mirror::parse(text, &own).unwrap().0 {
            Place::Web { base, authorities } => (base, authorities),
            Place::Directory(path) => panic!("{}", path.display()),
        };
        assert_eq!(of("https://a/b//"), ("https://a/b".to_owned(), Some(own.clone())));
        assert_eq!(of("http://a"), ("http://a".to_owned(), None));
    }

    #[test]
    fn no_name_leaves_the_directory_of_its_release() {
        for escape in ["..", ".", "../x", "/etc/passwd", "a/../../x", "a\0b", "a\\b", "%2e%2e", ""]
        {
            assert!(escape.parse::<ReleaseName>().is_err(), "{escape:?}");
        }
        let name = |text: &str| text.parse::<ReleaseName>().unwrap();
        let made = address("http://a/b", &name("keeper-2.0.0"), &name("binary"));
        assert_eq!(made, "http://a/b/keeper-2.0.0/binary");
    }
}
