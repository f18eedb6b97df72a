//! How nodes are, and whom each of them has attested.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::command::Status;
use crate::tool::node_client::NodeClient;
use crate::tool::outcome::{ToolError, line};

/// Digits of a digest that people compare.
const SHORT_DIGITS: usize = 12;

/// Says how nodes are.
pub fn status(asked: &Status) -> Result<(), ToolError> {
    let described: Vec<Value> = asked
        .door
        .iter()
        .map(|door| match NodeClient::new(door).admin() {
            Ok(mut node) => {
                node["door"] = json!(door);
                node
            }
            Err(error) => json!({ "door": door, "unreachable": error.to_string() }),
        })
        .collect();
    let matrix = matrix(&described);
    if asked.json {
        line(&json!({
            "schema": "heirloom.ledger-status.v1",
            "nodes": described,
            "matrix": matrix,
        }));
    } else {
        let text = people(&described, &matrix);
        let mut out = std::io::stdout().lock();
        // Whoever closed standard output does not want to hear it.
        std::io::Write::write_all(&mut out, text.as_bytes()).ok();
    }
    Ok(())
}

/// Who has attested whom: for each node and each other node, its code, or nothing.
fn matrix(described: &[Value]) -> Value {
    let mut rows = serde_json::Map::new();
    for node in described {
        let Some(name) = node["node"].as_str() else { continue };
        let mut row = serde_json::Map::new();
        for expected in node["peers_expected"].as_array().into_iter().flatten() {
            let Some(expected) = expected.as_str() else { continue };
            let mut peers = node["peers"].as_array().into_iter().flatten();
            let seen = peers.find(|peer| peer["node"] == expected);
            let code = seen.map_or(Value::Null, |peer| peer["measurement"].clone());
            row.insert(expected.to_owned(), code);
        }
        rows.insert(name.to_owned(), Value::Object(row));
    }
    Value::Object(rows)
}

fn people(described: &[Value], matrix: &Value) -> String {
    let mut text = String::new();
    for node in described {
        // Writing into a string cannot fail.
        if let Some(reason) = node["unreachable"].as_str() {
            writeln!(text, "{}: {reason}", node["door"].as_str().unwrap_or("?")).ok();
            continue;
        }
        writeln!(
            text,
            "{:<10} {:<9} {:<7} height {:<8} tip {}  schema {}  pending {}  peers {}/{}  code {}{}",
            word(&node["node"]),
            word(&node["admission"]),
            word(&node["writing"]),
            node["tip"]["height"],
            short(&node["tip"]["id"]),
            node["schema"],
            node["pending"],
            node["peers"].as_array().map_or(0, Vec::len),
            node["peers_expected"].as_array().map_or(0, Vec::len),
            short(&node["measurement"]),
            if node["fork"].is_null() { "" } else { "  FORK" },
        )
        .ok();
    }
    text.push_str("\nattested peers (row has attested column):\n");
    for (node, row) in matrix.as_object().into_iter().flatten() {
        write!(text, "{node:<10}").ok();
        for (peer, code) in row.as_object().into_iter().flatten() {
            let shown = if code.is_null() { "-".to_owned() } else { short(code) };
            write!(text, "  {peer}={shown}").ok();
        }
        text.push('\n');
    }
    text
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn short(value: &Value) -> String {
    let text = word(value);
    let digits = text.strip_prefix("sgx:").unwrap_or(text);
    digits.chars().take(SHORT_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_shows_who_is_missing() {
        let node = |name: &str, seen: &[&str]| {
            let peers: Vec<Value> = seen
                .iter()
                .map(|peer| json!({ "node": peer, "measurement": "sgx:abcdef0123456789" }))
                .collect();
            json!({ "node": name, "peers": peers, "peers_expected": ["n2", "n3"], "fork": null })
        };
        let described = [node("n1", &["n2"]), json!({ "door": "d", "unreachable": "gone" })];
        let matrix = matrix(&described);
        assert_eq!(matrix["n1"]["n2"], "sgx:abcdef0123456789");
        assert!(matrix["n1"]["n3"].is_null());
        let text = people(&described, &matrix);
        assert!(text.contains("n2=abcdef012345") && text.contains("n3=-"), "{text}");
        assert!(text.contains("d: gone"), "{text}");
    }
}
