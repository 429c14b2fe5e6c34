//! One English: turns of phrase that make a reader stumble, in comments, strings and documents.

use std::fs;
use std::path::{Path, PathBuf};

/// Each has a plainer word: exempt, repair, report, forever, again, the same, the result.
const TURNS: [&[&str]; 19] = [
    &["whom"],
    &["whoever"],
    &["lest"],
    &["anew"],
    &["likewise"],
    &["for", "ever"],
    &["belong", "into"],
    &["belongs", "into"],
    &["put", "right"],
    &["puts", "right"],
    &["tell", "of"],
    &["tells", "of"],
    &["told", "of"],
    &["keep", "nobody", "out"],
    &["keeps", "nobody", "out"],
    &["such", "of", "which"],
    &["stands", "apart"],
    &["what", "came", "of"],
    &["what", "comes", "of"],
];

/// What may follow in "is no longer"; else it is "is not a".
const AFTER_NO: [&str; 7] = ["longer", "more", "less", "further", "sooner", "later", "earlier"];

const FOLDERS: [&str; 8] =
    ["src", "crates", "xtask", "tests", "benches", "contrib", "grammars", "dashboards"];

const ENDINGS: [&str; 9] = ["rs", "md", "toml", "conf", "grammar", "list", "catalog", "service", "yml"];

#[test]
fn no_text_has_a_turn_that_makes_a_reader_stumble() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files =
        ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)).to_vec();
    FOLDERS.iter().for_each(|folder| gather(&root.join(folder), &mut files));
    assert!(files.len() > 200, "only {} files", files.len());
    let found: Vec<String> = files.iter().flat_map(|file| turns(file)).collect();
    assert!(found.is_empty(), "{}:\n{}", found.len(), found.join("\n"));
}

pub(super) fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let is_text = path.extension().is_some_and(|end| ENDINGS.iter().any(|ending| end == *ending));
        if path.is_dir() && !path.ends_with("target") {
            gather(&path, files);
        } else if is_text && !path.ends_with("english.rs") {
            files.push(path);
        }
    }
}

/// The turns in a file, with their places. A turn may go over the end of a line.
fn turns(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    // What servers write is theirs.
    let ours = |line: &&str| path.extension().is_none_or(|end| end != "grammar") || line.starts_with('#');
    let words: Vec<(usize, String)> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| ours(line))
        .flat_map(|(number, line)| {
            let words =
                line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
            words.map(move |word| (number, word.to_lowercase()))
        })
        .collect();
    let word = |at: usize| words.get(at).map_or("", |(_, word)| word.as_str());
    let is_turn = |at: usize| {
        let not = ["is", "are", "was", "were"].contains(&word(at)) && word(at + 1) == "no";
        TURNS.iter().any(|turn| (0..).zip(turn.iter()).all(|(nth, part)| word(at + nth) == *part))
            || not && !AFTER_NO.contains(&word(at + 2)) && (at == 0 || word(at - 1) != "there")
    };
    let shown = |at: usize| {
        format!("{}:{}: {} {} {}", path.display(), words[at].0, word(at), word(at + 1), word(at + 2))
    };
    (0..words.len()).filter(|at| is_turn(*at)).map(shown).collect()
}
