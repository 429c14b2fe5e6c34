//! Holds the code to its architecture: which module may use which, and which may touch the world.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test may panic

use std::path::{Path, PathBuf};

/// The modules bottom-up, and whether each is pure. A module may name only itself and those before it.
const LAYERS: &[(&str, bool)] = &[
    ("terminal", true),
    ("config", true),
    ("load", false),
    ("enforce", false),
    ("ledger", false),
    ("socket", false),
    ("source", false),
    ("omprog", false),
    ("control", false),
    ("metrics", false),
    ("report", true),
    ("notify", false),
    ("compat", false),
    ("offline", false),
    ("doctor", false),
    ("pipeline", false),
    ("cli", false),
    ("top", false),
    ("fuzz", false),
    ("generate", false),
];

/// Pure files of modules that are not.
const PURE: &[&str] = &[
    "enforce/book.rs",
    "enforce/change.rs",
    "enforce/wire.rs",
    "control.rs",
    "control/why.rs",
    "doctor/findings.rs",
    "notify/digest.rs",
    "notify/mail.rs",
    "top/state.rs",
    "top/view.rs",
];

/// What a pure module does not name.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os",
    "std::process",
    "std::thread",
    "std::env",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "tokio::",
    "nix::",
    "rusqlite::",
    "systemd::",
    "log::",
    "metrics::",
    "println!",
    "eprintln!",
];

/// Each effect's one home: whoever names the first may be only the second.
const HOMES: &[(&str, &[&str])] = &[
    ("thread::Builder", &["pipeline.rs"]),
    ("thread::spawn", &[]),
    ("Timestamp::now", &["pipeline.rs"]),
    ("SystemTime", &[]),
    ("rusqlite", &["ledger.rs", "ledger/history.rs"]),
    ("netlink_sys", &["enforce/kernel.rs"]),
    ("systemd::Journal", &["source/journald.rs", "source/journald/streams.rs"]),
    ("hyper_rustls", &["notify/webhook.rs"]),
];

/// Every source file below `src`, by its path there, with the text before its tests.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs")
                && path.file_name().is_some_and(|n| n != "tests.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let code: Vec<&str> =
                    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.push((name, code.join("\n")));
            }
        }
    }
    found.retain(|(name, _)| name != "lib.rs" && name != "main.rs");
    assert!(found.len() > LAYERS.len());
    found
}

fn layer(file: &str) -> usize {
    let module = file.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    LAYERS.iter().position(|(name, _)| *name == module).unwrap_or_else(|| panic!("`{file}` is in no layer"))
}

#[test]
fn each_module_uses_only_those_below_it() {
    for (file, code) in files() {
        for (above, _) in &LAYERS[layer(&file) + 1..] {
            let uses = code.split("crate::").skip(1).any(|rest| {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                name == *above
                    || (rest.starts_with('{') && rest.split('}').next().unwrap_or_default().contains(above))
            });
            assert!(!uses, "`{file}` names `{above}`, which is above it");
        }
    }
}

#[test]
fn pure_modules_touch_nothing() {
    for (file, code) in files() {
        if LAYERS[layer(&file)].1 || PURE.contains(&&*file) {
            for effect in EFFECTS {
                // `syslog::` is not `log::`.
                let named =
                    code.match_indices(effect).any(|(at, _)| !code[..at].ends_with(char::is_alphanumeric));
                assert!(!named, "`{file}` is pure, but names `{effect}`");
            }
        }
    }
}

#[test]
fn each_effect_has_one_home() {
    for (file, code) in files() {
        for (effect, homes) in HOMES {
            assert!(!code.contains(effect) || homes.contains(&&*file), "`{effect}` is named in `{file}`");
        }
    }
}
