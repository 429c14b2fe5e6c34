//! The keys of `--json`, as tables for people, from the types that are printed and their comments.

use std::fmt::Write;

use banstream::config::Setting;
use banstream::control::{AllowLine, BanLine, ChangeReport, Status, Why};
use banstream::daemon::notify::{EventMessage, Message};
use banstream::fail2ban::{BanDiff, ImportReport};
use banstream::tools::doctor::Finding;
use banstream::tools::list::ListReport;
use banstream::tools::offline::{Difference, Explanation, ReplayedBan, Summary};
use banstream::tools::report::Report;
use banstream::tools::setup::SetupReport;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

const HEAD: &str = "\
# What `--json` prints

Keys do not change from version to version, and new ones may be added: ignore unknown keys. Times are in UTC as in
RFC 3339, addresses and prefixes are `192.0.2.1` and `2001:db8::/64`. `[]` stands for each element of an array, `*`
for each key of an object; a `?` marks types that may be `null`. The control socket gives the same answers:
`curl --unix-socket /run/banstream/control.sock http://localhost/status`.

A refusal is `{\"error\": \"...\"}`, with exit status 1. `reload` prints `changed` (a number), `changes` (which settings), `warnings`,
the files of `geoip`, and `bans`, what became of bans, as `ban` prints it. `undo --list` prints an array of `command`, `at`, `ago`
(seconds) and `changes` (how many; `null` if they are too many to be taken back).

`POST /changes` takes what `ban`, `unban` and `allow` ask for, 1,000 changes at the most: `{\"changes\": [{\"ban\": {\"address\":
\"192.0.2.1\", \"for\": \"1h\", \"reason\": \"...\"}}, {\"unban\": {\"inside\": \"192.0.2.0/24\"}}, {\"allow\": {\"address\": \"192.0.2.2\", \"for\":
\"forever\", \"comment\": \"...\"}}, {\"disallow\": {\"address\": \"192.0.2.3\"}}], \"force\": false}`. `unban` has one of `address`, `inside` and
`jail`, or is `\"all\"`; what follows `address` may be missing. `{\"restore\": {...}}` puts a ban of a jail in force again, in the form
of `POST /bans/page`. Of several changes, those that are refused stand in `notes`, and the others are done. `operator` is the
address that the operator is logged in from. Pages with the same number `list` are one command for `POST /undo`, and are answered
once the kernel and the ledger have them. `POST /undo?force=true` is `undo --force`, and `GET /undo` is `undo --list`.
`POST /allow` takes `force`, as `POST /bans` does.

`POST /bans/page` takes over bans that were decided elsewhere, 1,000 at the most: `{\"bans\": [{\"address\": \"192.0.2.1\", \"jail\":
\"sshd\", \"since\": \"2026-11-24T08:00:00Z\", \"until\": null, \"times\": 2, \"ports\": [\"22/tcp\"], \"reason\": \"...\"}]}`; what follows
`since` may be missing. The answer is `taken` of `import list`.

`GET /bans` takes `address`, `in`, `jail`, `kind`, `since`, `text`, `sort` and `limit`, as `bans` does; its header `banstream-total` says how
many bans there are without the limit, and `banstream-geoip` has the files of `geoip`, if there are any. `GET /bans/list` takes
the same and is the text of `bans --export`.

`log --json` prints what `journalctl -o json` does: an object a line, with `MESSAGE`, `PRIORITY`, `__REALTIME_TIMESTAMP`, and where it
is about them `BANSTREAM_ADDRESS`, `BANSTREAM_JAIL` and `BANSTREAM_TIMES`.

`cargo run --package xtask -- DIR` makes this file of the types that are printed.
";

/// The whole document, in Markdown.
pub(crate) fn document() -> String {
    let mut text = HEAD.to_owned();
    section::<Status>(&mut text, "status", "An object.");
    section::<Vec<BanLine>>(&mut text, "bans", "An array.");
    section::<Why>(&mut text, "why", "An object.");
    section::<Vec<AllowLine>>(&mut text, "allow", "Without an address: an array.");
    section::<ChangeReport>(&mut text, "ban, unban, allow, undo", "With an address or a list: an object.");
    section::<Vec<Setting>>(&mut text, "config show", "An array.");
    section::<Vec<Finding>>(
        &mut text,
        "doctor",
        "An array: what is as it should be, then advice, then what is `wrong` or `doubtful`.",
    );
    section::<SetupReport>(&mut text, "setup", "An object.");
    section::<ImportReport>(&mut text, "import fail2ban", "An object.");
    section::<BanDiff>(&mut text, "import fail2ban --diff", "An object.");
    section::<ListReport>(&mut text, "import list", "An object.");
    section::<Report>(&mut text, "report", "An object.");
    section::<Explanation<'_>>(&mut text, "explain", "An object for each line, one per line.");
    section::<ReplayedBan>(
        &mut text,
        "replay",
        "An object for each ban, one per line. The last line is described below.",
    );
    section::<Difference>(
        &mut text,
        "replay --against",
        "An object for each offender that is treated differently, one per line.",
    );
    section::<Summary>(&mut text, "replay, the last line", "The only key is `summary`; in it:");
    section::<Message>(&mut text, "Notifications", "The JSON of `[notify]`: an object.");
    section::<EventMessage>(
        &mut text,
        "Notifications with each",
        "The JSON of a receiver with `each = true`: an object for each event. The keys from `address` on are missing where no \
         ban is concerned.",
    );
    text
}

/// A heading, and a row for each key.
fn section<T: JsonSchema>(text: &mut String, heading: &str, form: &str) {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema: Schema = settings.into_generator().into_root_schema_for::<T>();
    // Nothing fails to be written to a `String`.
    let _ = write!(text, "\n## {heading}\n\n{form}\n\n| key | type | meaning |\n|---|---|---|\n");
    rows(schema.as_value(), "", text);
}

/// The rows of what lies in a value, `path` being where that is.
fn rows(schema: &Value, path: &str, text: &mut String) {
    let schema = some(schema);
    if let Some(items) = schema.get("items") {
        return rows(items, &format!("{path}[]"), text);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        return rows(values, &format!("{path}.*"), text);
    }
    for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let meaning = value.get("description").and_then(Value::as_str).unwrap_or_default();
        let meaning = meaning.replace('\n', " ").replace("`None`", "`null`");
        let _ = writeln!(text, "| `{path}` | {} | {meaning} |", kind(value));
        rows(value, &path, text);
    }
}

/// What an optional value is when it is there.
fn some(schema: &Value) -> &Value {
    let choices = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    choices.into_iter().find(|choice| !is_null(choice)).unwrap_or(schema)
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").is_some_and(|kind| kind == "null")
}

/// The type of a value, for people.
fn kind(schema: &Value) -> String {
    let inner = some(schema);
    let types: Vec<&str> = match inner.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        Some(one) => one.as_str().into_iter().collect(),
        None => Vec::new(),
    };
    let words = |value: &Value| {
        value
            .as_array()
            .map(|words| words.iter().map(|word| format!("`{}`", word.as_str().unwrap_or("null"))).collect())
    };
    let variants = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|one| Some(format!("`{}`", one.get("const")?.as_str()?))).collect()
    };
    let one_of: Option<Vec<String>> =
        inner.get("enum").and_then(words).or_else(|| inner.get("oneOf").and_then(variants));
    let name = match one_of {
        Some(words) => words.join(" "),
        None => types.iter().find(|kind| **kind != "null").copied().unwrap_or("any").to_owned(),
    };
    let optional = types.contains(&"null") || !std::ptr::eq(inner, schema);
    if optional { format!("{name}?") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_that_of_this_version() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/json.md");
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == document(), "run `cargo run --package xtask -- target/generated`, and copy json.md");
    }

    #[test]
    fn every_key_has_a_meaning() {
        let document = document();
        let without: Vec<&str> = document.lines().filter(|line| line.ends_with("|  |")).collect();
        assert!(without.is_empty(), "{without:#?}");
    }
}
