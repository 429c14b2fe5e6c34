//! Writes small files in MaxMind's format: <https://maxmind.github.io/MaxMind-DB/>.

use std::net::IpAddr;

use banstream::model::Offender;
use serde_json::{Value, json};

const MARK: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// A file with these records, of networks that do not overlap. IPv4 is in the last 32 bits of IPv6.
pub(crate) fn mmdb(records: &[(&str, Value)]) -> Vec<u8> {
    const NOTHING: usize = usize::MAX;
    // What stands behind a bit: a node; or with the highest bit set, data at this place.
    let (mut nodes, mut data) = (vec![[NOTHING; 2]], Vec::new());
    let is_data = 1 << 40;
    for (network, value) in records {
        let network: Offender = network.parse().unwrap();
        let (bits, length) = match network.address() {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 96 + network.prefix()),
            IpAddr::V6(v6) => (v6.to_bits(), network.prefix()),
        };
        let mut at = 0;
        for place in 0..length {
            let side = usize::from(bits >> (127 - place) & 1 == 1);
            if place + 1 == length {
                nodes[at][side] = is_data | data.len();
            } else {
                if nodes[at][side] == NOTHING {
                    nodes.push([NOTHING; 2]);
                    nodes[at][side] = nodes.len() - 1;
                }
                at = nodes[at][side];
            }
        }
        write("", value, &mut data);
    }
    let mut file = Vec::new();
    for child in nodes.iter().flatten() {
        let record = match *child {
            NOTHING => nodes.len(),
            child if child & is_data != 0 => nodes.len() + 16 + (child & !is_data),
            node => node,
        };
        file.extend(&(record as u32).to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(MARK);
    let about = json!({
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1, "database_type": "Test",
        "description": {"en": "Test"}, "ip_version": 6, "languages": ["en"], "node_count": nodes.len(), "record_size": 24,
    });
    write("", &about, &mut file);
    file
}

/// A value; of numbers the key decides which type the format asks for.
fn write(key: &str, value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::String(text) => {
            head(2, text.len(), to);
            to.extend(text.as_bytes());
        }
        Value::Number(number) => {
            let (kind, size) = match key {
                "build_epoch" => (9, 8),
                "binary_format_major_version"
                | "binary_format_minor_version"
                | "ip_version"
                | "record_size" => (5, 2),
                _ => (6, 4),
            };
            head(kind, size, to);
            to.extend(&number.as_u64().unwrap().to_be_bytes()[8 - size..]);
        }
        Value::Object(map) => {
            head(7, map.len(), to);
            for (key, value) in map {
                write("", &key.as_str().into(), to);
                write(key, value, to);
            }
        }
        Value::Array(items) => {
            head(11, items.len(), to);
            items.iter().for_each(|item| write(key, item, to));
        }
        Value::Bool(flag) => head(14, usize::from(*flag), to),
        Value::Null => unreachable!("the format has no null"),
    }
}

/// The control byte, and what does not fit into it.
fn head(kind: u8, size: usize, to: &mut Vec<u8>) {
    let (short, more) =
        if size < 29 { (size as u8, None) } else { (29, Some(u8::try_from(size - 29).unwrap())) };
    match kind {
        ..8 => to.push(kind << 5 | short),
        _ => to.extend([short, kind - 7]),
    }
    to.extend(more);
}
