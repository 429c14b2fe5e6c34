//! Nothing in a report's page runs in a real browser.

use std::fs;
use std::process::Command;

use crate::common::week::Week;

/// Opens the page in a real browser: what its title is in the end, and whether the browser complained.
#[test]
fn nothing_in_a_page_runs() {
    let week = Week::new();
    let page = week.0.path().join("report.html");
    let look = |text: &str| {
        fs::write(&page, text).unwrap();
        let output = Command::new("timeout")
            .args([
                "60",
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--enable-logging=stderr",
            ])
            .args(["--dump-dom", &format!("--user-data-dir={}", week.0.path().join("profile").display())])
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        let complaints = complaints.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned);
        (String::from_utf8(output.stdout).unwrap(), complaints.collect::<Vec<_>>())
    };
    let text = week.report("2026-11-16", "2026-11-23", &["--html"]);
    let (seen, complaints) = look(&text);
    assert!(seen.contains("to 2026-11-23 00:00</title>"), "{seen}");
    assert_eq!(seen.matches("<rect").count(), 14, "{seen}");
    assert_eq!(complaints, [""; 0]);
    // Even if something were not escaped, the page's own policy would keep it from running, and say so.
    let (seen, complaints) = look(&text.replace("&lt;", "<").replace("&gt;", ">"));
    assert!(seen.contains("<img src=") && seen.contains("to 2026-11-23 00:00</title>"), "{seen}");
    assert!(complaints.iter().any(|line| line.contains("Content Security Policy")), "{complaints:?}");
}
