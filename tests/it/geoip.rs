//! Countries and networks of addresses, by files in the usual schemas, by hostile ones and by none.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use banstream::tools::geoip::GeoIp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::common::mmdb::mmdb;
use crate::common::{BANSTREAM, Daemon, Killed};

/// What is found of the address in one file with this record of the network.
#[track_caller]
fn check(network: &str, record: &Value, who: &str, want: &str) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.mmdb");
    fs::write(&path, mmdb(&[(network, record.clone())])).unwrap();
    let mut geoip = GeoIp::open(&[path]);
    let found = geoip.find(who.parse().unwrap()).to_string();
    assert_eq!((found.as_str(), geoip.faults()), (want, Vec::new()), "{record}");
}

#[test]
fn the_usual_schemas_are_read() {
    let names = json!({"en": "Netherlands", "de": "Niederlande"});
    for (record, want) in [
        (
            json!({"country": {"geoname_id": 2_750_405, "iso_code": "NL", "is_in_european_union": true, "names": names}}),
            "NL",
        ),
        (json!({"registered_country": {"iso_code": "NL"}, "continent": {"code": "EU"}}), "NL"),
        (
            json!({"city": {"names": names}, "country": {"iso_code": "NL"}, "subdivisions": [{"iso_code": "ZH"}]}),
            "NL",
        ),
        (
            json!({"autonomous_system_number": 64_496, "autonomous_system_organization": "Example"}),
            "AS64496 Example",
        ),
        (
            json!({"country": "NL", "asn": "AS64496", "as_name": "Example", "as_domain": "example.org"}),
            "NL AS64496 Example",
        ),
        (
            json!({"country": "Netherlands", "country_code": "NL", "asn": "AS64496", "as_name": ""}),
            "NL AS64496",
        ),
        (json!({"asn": 64_496, "name": "Example", "type": "hosting"}), "AS64496 Example"),
        (json!({"country_code": "NL"}), "NL"),
        (json!({"country": {"names": names}, "name": "not a network's", "asn": "none"}), ""),
        (json!({"country": 5, "asn": ["AS1"], "as_name": {"x": true}}), ""),
    ] {
        check("192.0.2.0/24", &record, "192.0.2.7", want);
        check("2001:db8::/32", &record, "2001:db8::/64", want);
    }
}

#[test]
fn only_what_holds_for_the_whole_prefix_is_said() {
    let record = json!({"country_code": "NL"});
    check("192.0.2.0/24", &record, "192.0.2.0/24", "NL");
    check("192.0.2.0/25", &record, "192.0.2.0/24", "");
    check("2001:db8::/65", &record, "2001:db8::/64", "");
    check("192.0.2.0/24", &record, "198.51.100.1", "");
    check("192.0.2.0/24", &record, "2001:db8::1", "");
}

#[test]
fn what_files_say_is_cleaned_and_cut() {
    let record = json!({"country_code": "\u{1b}[2J\n\u{202e}", "asn": 1, "as_name": format!("a\tb{}", "x".repeat(100))});
    let want = format!("\u{fffd}[2J\u{fffd}\u{fffd} AS1 a\u{fffd}b{}", "x".repeat(37));
    check("192.0.2.0/24", &record, "192.0.2.7", &want);
}

#[test]
fn files_add_to_each_other_and_wrong_ones_are_named() {
    let folder = tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let one = write("1", &mmdb(&[("192.0.2.0/24", json!({"country_code": "NL"}))]));
    let two =
        write("2", &mmdb(&[("192.0.2.0/24", json!({"country_code": "AT", "asn": 1, "as_name": "One"}))]));
    let three = write("3", &mmdb(&[("192.0.2.0/24", json!({"asn": 2, "as_name": "Two"}))]));
    let text = write("text", b"not such a file");
    // Its only record ends too early.
    let broken = mmdb(&[("192.0.2.0/24", json!({"country_code": "NL"}))]);
    let end = broken.iter().position(|byte| *byte == 0xab).unwrap();
    let broken = write("broken", &[&broken[..end - 12], &broken[end..]].concat());
    let paths: [PathBuf; 7] = [one, two, three, text, broken, folder.path().join("gone"), "/dev/zero".into()];
    let mut geoip = GeoIp::open(&paths);
    let found: Vec<String> = (0..2).map(|_| geoip.find("192.0.2.7".parse().unwrap()).to_string()).collect();
    assert_eq!(found, ["NL AS1 One", "NL AS1 One"]);
    let faults = geoip.faults();
    let named = [3, 5, 6, 4].map(|file| format!("cannot read `{}`: ", paths[file].display()));
    assert_eq!(faults.len(), named.len(), "{faults:?}");
    assert!(faults.iter().zip(&named).all(|(fault, named)| fault.starts_with(named)), "{faults:?}");
    assert!(geoip.faults().is_empty(), "each is named once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_file_makes_it_panic(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..9), cut: prop::sample::Index) {
        let record = json!({"country": {"iso_code": "NL", "names": {"en": "x"}}, "asn": "AS1", "as_name": "Example"});
        let mut file = mmdb(&[("192.0.2.0/24", record.clone()), ("2001:db8::/32", record)]);
        places.iter().for_each(|(place, byte)| *place.get_mut(&mut file) = *byte);
        if places.is_empty() {
            file.truncate(cut.index(file.len()));
        }
        let folder = tempdir().unwrap();
        let path = folder.path().join("x.mmdb");
        fs::write(&path, file).unwrap();
        let mut geoip = GeoIp::open(&[path]);
        for who in ["192.0.2.7", "192.0.2.0/24", "2001:db8::/64", "::/0", "255.255.255.255"] {
            geoip.find(who.parse().unwrap());
        }
    }
}

/// The line of the configuration that names a file that is not there is named with it.
#[test]
fn a_file_that_is_missing_is_named_by_all_who_look_at_the_configuration() {
    let daemon = Daemon::deciding("geoip = ['/nonexistent/y.mmdb', 'DIR/text']");
    fs::write(daemon.path("text"), "not such a file").unwrap();
    let missing = "cannot read `/nonexistent/y.mmdb`: No such file or directory (os error 2)";
    let text = daemon.path("text").display().to_string();
    let text = format!("cannot read `{text}`: not a file in MaxMind's format");
    let both = |said: &str| assert!(said.contains(missing) && said.contains(&text), "{said}");
    let said = daemon.tell("check c.toml");
    both(&said);
    assert!(
        said.starts_with(&format!(
            "c.toml:7: warning: `geoip`: {missing}; countries or networks are missing\n"
        )),
        "{said}"
    );
    both(&daemon.tell("reload"));
    let output = daemon.output(&["doctor", "--config", "c.toml"]);
    let said = String::from_utf8(output.stdout).unwrap();
    both(&said);
    assert_eq!(said.matches("[geoip-broken]").count(), 2, "{said}");
}

/// What the page of `banstream web` at this path is, for a browser with the token.
fn page(address: &str, path: &str) -> String {
    let (host, token) = address.strip_prefix("http://").unwrap().split_once("/?token=").unwrap();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(host).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\ncookie: banstream={token}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    let entered = ask(&format!("/?token={token}"));
    let place = entered.split("location: ").nth(1).unwrap().split("\r\n").next().unwrap();
    ask(&format!("{place}{path}"))
}

#[test]
fn the_page_says_where_an_address_is_and_which_file_cannot_be_read() {
    let daemon = Daemon::deciding("geoip = ['DIR/x.mmdb', '/nonexistent/y.mmdb']");
    // Started by root, the page is served by another user.
    fs::set_permissions(daemon.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    daemon.tell("ban 192.0.2.7 --reason scan");
    let record = json!({"country_code": "NL", "asn": 64_496, "as_name": "<b>Example"});
    fs::write(daemon.path("x.mmdb"), mmdb(&[("192.0.2.0/24", record)])).unwrap();
    let mut command = Command::new(BANSTREAM);
    command.args(["web", "--listen", "127.0.0.1:0"]).env("BANSTREAM_SOCKET", daemon.path("control"));
    let mut web = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(web.stdout.take().unwrap());
    let _web = Killed(web);
    let mut address = String::new();
    said.read_line(&mut address).unwrap();
    let address = address.trim().strip_prefix("open ").unwrap();
    let fault = "geoip: cannot read `/nonexistent/y.mmdb`: No such file or directory (os error 2); countries or networks are \
                 missing";
    for path in ["", "bans", "why?address=192.0.2.7"] {
        let text = page(address, path);
        assert!(text.contains("NL AS64496 &lt;b&gt;Example") && text.contains(fault), "{path}: {text}");
    }
    assert!(page(address, "bans").contains(">Where</th>"));
    // A file that comes later is read then.
    let record = json!({"country_code": "AT"});
    fs::write(daemon.path("x.mmdb"), mmdb(&[("192.0.2.0/25", record)])).unwrap();
    assert!(page(address, "bans").contains(">AT</td>"));
}

#[test]
fn commands_say_where_an_address_is_and_which_file_cannot_be_read() {
    let daemon = Daemon::deciding("geoip = ['DIR/x.mmdb', '/nonexistent/y.mmdb']");
    daemon.tell("ban 192.0.2.7 --reason scan");
    daemon.tell("ban 198.51.100.7");
    let notice = "geoip: cannot read `/nonexistent/y.mmdb`: No such file or directory (os error 2); countries or networks \
                  are missing\n";
    let record = json!({"country_code": "NL", "asn": 64_496, "as_name": "Example"});
    fs::write(daemon.path("x.mmdb"), mmdb(&[("192.0.2.0/24", record)])).unwrap();
    let output = daemon.output(&["bans"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<_> = text.lines().map(|line| line.rsplit("  ").next().unwrap()).collect();
    assert_eq!((rows[0], rows[1]), ("WHERE", "NL AS64496 Example"), "{text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), notice);
    let text = daemon.tell("why 192.0.2.7");
    assert!(text.starts_with("192.0.2.7 is not banned\ncountry and network: NL AS64496 Example\n"), "{text}");
    assert!(!daemon.tell("why 198.51.100.7").contains("country and network"));
    for quiet in ["bans --export", "bans --json", "why 192.0.2.7 --json"] {
        let text = daemon.tell(quiet);
        assert!(!text.contains("NL") && !text.contains("cannot read"), "{text}");
    }
}
