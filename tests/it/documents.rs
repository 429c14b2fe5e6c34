//! What the documents name is there: files, tests, metrics, and what a link leads to.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::documents::{DOCUMENTS, Document};

/// Where what is named by its path lies.
const FOLDERS: [&str; 8] =
    ["src/", "crates/", "tests/", "contrib/", "grammars/", "dashboards/", "fuzz/", "benches/"];

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let headings = |path: &Path| -> BTreeSet<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let titles = text.lines().filter(|line| line.starts_with('#'));
        let plain = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let titles =
            titles.map(|line| line.trim_start_matches('#').trim().chars().filter(plain).collect::<String>());
        titles.map(|title| title.to_lowercase().replace(' ', "-")).collect()
    };
    for document in DOCUMENTS.iter().filter(|path| path.ends_with(".md")) {
        let text = fs::read_to_string(document).expect(document);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let pictures = ["src=\"", "srcset=\""].map(|from| text.split(from).skip(1));
        let pictures = pictures.into_iter().flatten().filter_map(|rest| rest.split('"').next());
        for target in links.chain(pictures) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let here = Path::new(document);
            let there =
                if path.is_empty() { here.into() } else { here.parent().expect("a folder").join(path) };
            let reached = there.exists() && (anchor.is_empty() || headings(&there).contains(anchor));
            if !reached && !target.starts_with("https://") {
                wrong.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_alert_leads_to_its_section_of_the_runbook_and_every_section_has_an_alert() {
    let alerts = fs::read_to_string("dashboards/alerts.yml").expect("the alerts");
    let runbook = fs::read_to_string("contrib/runbook.md").expect("the runbook");
    let page = "file:///usr/share/doc/banstream/contrib/runbook.md"; // where contrib/stage puts it
    let mut led = Vec::new();
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap_or_default();
        let url = alert.lines().find_map(|line| line.trim().strip_prefix("runbook_url: "));
        assert_eq!(url, Some(&*format!("{page}#{}", name.to_lowercase())), "{name}");
        led.push(name);
    }
    let sections: Vec<&str> = runbook.split("\n## ").skip(1).collect();
    assert_eq!(sections.iter().filter_map(|section| section.lines().next()).collect::<Vec<_>>(), led);
    for section in sections {
        let parts = section.lines().filter_map(|line| line.strip_prefix("**")?.split_once("**: "));
        let parts: Vec<&str> = parts.map(|(part, _)| part).collect();
        assert_eq!(parts, ["Means", "Look at", "Do"], "{section}");
    }
}

#[test]
fn every_file_test_and_metric_that_is_named_exists() {
    let mut sources = String::new();
    let mut folders: Vec<PathBuf> = ["src", "crates/core/src", "tests", "benches"].map(PathBuf::from).into();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a file").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                sources += &fs::read_to_string(&path).expect("text");
            }
        }
    }
    let metrics = fs::read_to_string("contrib/metrics.md").expect("the metrics");
    let mut wrong = Vec::new();
    for path in DOCUMENTS {
        let document = Document::read(path);
        for code in document.spans.iter().flatten().chain(document.blocks.iter().flatten()) {
            let words: Vec<&str> = code.split_whitespace().collect();
            let exists = if code.starts_with("cargo ") {
                // `--bench NAME`, `--test NAME`, and behind them a part of the name of a test
                words.windows(2).all(|pair| match pair {
                    ["--bench", name] => Path::new("benches").join(name).with_extension("rs").exists(),
                    ["--test", name] => {
                        let test = Path::new("tests").join(name);
                        test.with_extension("rs").exists() || test.join("main.rs").exists()
                    }
                    _ => true,
                })
            } else if words.len() == 1 && FOLDERS.iter().any(|folder| code.starts_with(folder)) {
                Path::new(code).exists()
            } else if words.len() == 1 && code.starts_with("banstream_") {
                metrics.contains(&format!("| `{code}` |"))
            } else if path == "src/README.md"
                && code.matches('_').count() > 2
                && code.chars().all(|c| c.is_ascii_lowercase() || "_:…".contains(c))
            {
                let name = code.rsplit("::").next().unwrap_or_default();
                sources.contains(&format!("fn {}", name.trim_end_matches('…')))
            } else {
                true
            };
            if !exists {
                wrong.push(format!("{path}: {code}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
