//! Holds the code to its architecture: each module uses only those above it in `lib.rs`, and `src/README.md` lists
//! them in the same order, and every dependency.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test may panic

use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use toml::de::DeTable;

/// Crates that only these folders name.
const HOMES: &[(&str, &[&str])] = &[
    ("async_nats", &["fleet"]),
    ("axum", &["control", "web"]),
    ("banstream_journal", &["input", "fuzz"]),
    ("crossterm", &["cli"]),
    ("hyper_rustls", &["daemon"]),
    ("maxminddb", &["tools"]),
    ("netlink_sys", &["kernel"]),
    ("ratatui", &["cli"]),
    ("rusqlite", &["store"]),
];

/// The sources, and what the table of their modules in `src/README.md` begins with.
const ROOTS: [(&str, &str); 2] =
    [("crates/core/src", "| module of `crates/core`"), ("src", "| folder of `src`")];

/// The modules of a crate in the order in which its `lib.rs` declares them.
fn declared(root: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(root).join("lib.rs")).unwrap();
    let modules = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    modules.map(str::to_owned).collect()
}

/// What a module names that it may not; `module` is its path from the root of the crate.
fn faults(modules: &[String], module: &[String], tokens: TokenStream) -> Vec<String> {
    let mut walk = Walk { modules, module: module.to_vec(), faults: Vec::new() };
    walk.tokens(&tokens.into_iter().collect::<Vec<_>>());
    walk.faults
}

struct Walk<'m> {
    modules: &'m [String],
    module: Vec<String>,
    faults: Vec<String>,
}

impl Walk<'_> {
    fn tokens(&mut self, mut tokens: &[TokenTree]) {
        while let Some((first, rest)) = tokens.split_first() {
            tokens = match (first, rest) {
                (TokenTree::Ident(word), [TokenTree::Ident(name), TokenTree::Group(body), rest @ ..])
                    if word == "mod" =>
                {
                    self.module.push(name.to_string());
                    self.inside(body);
                    self.module.pop();
                    rest
                }
                (TokenTree::Ident(_), _) => self.path(&[], tokens),
                (TokenTree::Group(group), _) => {
                    self.inside(group);
                    rest
                }
                _ => rest,
            };
        }
    }

    fn inside(&mut self, group: &proc_macro2::Group) {
        self.tokens(&group.stream().into_iter().collect::<Vec<_>>());
    }

    /// Reads a path, in `use` also a tree of them, whose beginning is `prefix`. What follows it.
    fn path<'t>(&mut self, prefix: &[String], mut tokens: &'t [TokenTree]) -> &'t [TokenTree] {
        let mut path = prefix.to_vec();
        loop {
            match tokens {
                [TokenTree::Ident(name), rest @ ..] => {
                    path.push(name.to_string());
                    tokens = rest;
                }
                [TokenTree::Punct(star), rest @ ..] if star.as_char() == '*' => {
                    path.push("*".to_owned());
                    tokens = rest;
                }
                [TokenTree::Group(group), rest @ ..] => {
                    let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in
                        branches.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ','))
                    {
                        self.path(&path, branch);
                    }
                    return rest;
                }
                _ => {}
            }
            match tokens {
                [TokenTree::Punct(one), TokenTree::Punct(two), rest @ ..]
                    if one.as_char() == ':' && two.as_char() == ':' =>
                {
                    tokens = rest;
                    if !matches!(rest, [TokenTree::Ident(_) | TokenTree::Group(_), ..])
                        && !matches!(rest, [TokenTree::Punct(star), ..] if star.as_char() == '*')
                    {
                        break;
                    }
                }
                _ => break,
            }
        }
        let renamed = matches!(tokens, [TokenTree::Ident(next), ..] if next == "as" || next == "self");
        self.judge(&path, renamed);
        tokens
    }

    fn judge(&mut self, path: &[String], renamed: bool) {
        let written = path.join("::");
        let folder = self.module.first();
        let is_home = |homes: &[&str]| folder.is_some_and(|folder| homes.contains(&folder.as_str()));
        if let Some((_, homes)) =
            HOMES.iter().find(|(name, homes)| path.iter().any(|part| part == name) && !is_home(homes))
        {
            let homes = homes.join("` and `");
            return self.faults.push(format!("`{written}`: that crate is used in `{homes}` only"));
        }
        let mut place = match &*path[0] {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return,
        };
        for name in path {
            match &**name {
                "crate" | "self" => {}
                "super" => drop(place.pop()),
                _ => place.push(name.clone()),
            }
        }
        // By another name for the root anything could be reached. `pub(crate)` and `pub(super)` name it too.
        let is_root = place.first().is_none_or(|first| first == "*");
        if is_root && (path.len() > 1 || renamed) {
            return self.faults.push(format!("`{written}` names the root"));
        }
        let rank = |name: Option<&String>| self.modules.iter().position(|module| Some(module) == name);
        if rank(folder).zip(rank(place.first())).is_some_and(|(own, other)| other > own) {
            self.faults.push(format!("`{written}` is above `{}`", self.module.join("::")));
        }
    }
}

/// Every source file of a crate, with its module.
fn files(root: &str) -> Vec<(PathBuf, Vec<String>)> {
    let (mut found, mut unread) = (Vec::new(), vec![PathBuf::from(root)]);
    while let Some(folder) = unread.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                unread.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let names = path.with_extension("");
                let names = names.strip_prefix(root).unwrap().iter().map(|name| name.to_str().unwrap());
                found.push((path.clone(), names.filter(|name| *name != "mod").map(str::to_owned).collect()));
            }
        }
    }
    found.retain(|(_, module)| module != &["lib"] && module != &["main"]);
    assert!(found.len() > 30, "{found:?}");
    found
}

#[test]
fn each_module_uses_only_those_above_it() {
    let mut wrong = Vec::new();
    for (root, _) in ROOTS {
        let modules = declared(root);
        for (path, module) in files(root) {
            assert!(modules.contains(&module[0]), "{}", path.display());
            let faults = faults(&modules, &module, std::fs::read_to_string(&path).unwrap().parse().unwrap());
            wrong.extend(faults.iter().map(|fault| format!("{}: {fault}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_readme_lists_the_modules_in_their_order() {
    let text = std::fs::read_to_string("src/README.md").unwrap();
    for (root, head) in ROOTS {
        let table = text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
        let rows = table.map_while(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(rows.collect::<Vec<_>>(), declared(root));
    }
}

/// The crates that a manifest names below `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let text = std::fs::read_to_string(manifest).unwrap();
    let table = DeTable::parse(&text).unwrap();
    let names = table.get_ref()["dependencies"].get_ref().as_table().unwrap().keys();
    names.map(|name| name.get_ref().to_string()).collect()
}

#[test]
fn the_readme_lists_the_dependencies() {
    let manifests = ["Cargo.toml", "crates/core/Cargo.toml", "crates/journal/Cargo.toml", "xtask/Cargo.toml"];
    let mut named: Vec<String> = manifests.into_iter().flat_map(dependencies).collect();
    named.retain(|name| name != "banstream");
    named.sort_unstable();
    named.dedup();
    let text = std::fs::read_to_string("src/README.md").unwrap();
    let table = text.lines().skip_while(|line| !line.starts_with("| crate | what it does here")).skip(2);
    let cells = table.map_while(|line| line.strip_prefix("| ")?.split(" | ").next());
    let mut listed: Vec<&str> =
        cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`')).collect();
    listed.sort_unstable();
    assert_eq!(listed, named);
}

#[test]
fn a_use_of_what_is_above_is_found_however_it_is_written() {
    let modules = ["low", "high"].map(str::to_owned);
    let check = |code: &str, refused: bool| {
        let module = ["low", "file"].map(str::to_owned);
        let faults = faults(&modules, &module, code.parse().unwrap());
        assert_eq!(!faults.is_empty(), refused, "{code}: {faults:?}");
    };
    check("use crate::high::now;", true);
    check("use crate::high;", true);
    check("use crate::{low::{A, B}, high::now};", true);
    check("use crate::{low::{A, B}, model::high};", false);
    check("use super::super::high::now as later;", true);
    check("use super::{super::high::now, other};", true);
    check("use super::high;", false);
    check("mod inner { use super::super::super::high::now; }", true);
    check("mod inner { use super::super::high::now; }", false);
    check("#[cfg(test)] mod tests {} fn f() -> crate::high::Time { loop {} }", true);
    check("fn f() { println!(\"{}\", crate::high::now()); }", true);
    check("use crate as root;", true);
    check("use crate::{self as root};", true);
    check("use super::super as root;", true);
    check("use crate::*;", true);
    check("use super::super::*;", true);
    check("extern crate self as root;", true);
    check("pub(crate) fn f(&self) { self.high(); }", false);
    check("// crate::high\nconst S: &str = \"crate::high\";", false);
    check("use ::rusqlite::Connection;", true);
    check("fn f() { rusqlite::Connection::open(crate::low::file()); }", true);
}
