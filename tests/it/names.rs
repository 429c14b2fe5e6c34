//! One name, one thing: a search for the name of a type finds that type alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::english::gather;

/// Adds the names of the types that `tokens` declare; associated types are not types of their own.
fn types(tokens: TokenStream, are_associated: bool, found: &mut Vec<String>) {
    let (mut keyword, mut is_body_of_types) = (String::new(), false);
    for token in tokens {
        match token {
            TokenTree::Ident(word) => {
                let word = word.to_string();
                let declares = match keyword.as_str() {
                    "struct" | "enum" | "union" | "trait" => true,
                    "type" => !are_associated,
                    _ => false,
                };
                is_body_of_types |= ["impl", "trait"].contains(&word.as_str());
                found.extend(declares.then(|| word.clone()));
                keyword = word;
            }
            TokenTree::Group(group) => {
                let is_body = group.delimiter() == Delimiter::Brace;
                types(group.stream(), is_body && is_body_of_types, found);
                is_body_of_types &= !is_body;
                keyword.clear();
            }
            _ => keyword.clear(),
        }
    }
}

#[test]
fn the_name_of_a_type_is_declared_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    ["src", "crates", "xtask"].iter().for_each(|folder| gather(&root.join(folder), &mut files));
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let mut found = Vec::new();
        types(fs::read_to_string(file).unwrap().parse().unwrap(), false, &mut found);
        found.into_iter().for_each(|name| places.entry(name).or_default().push(file.display().to_string()));
    }
    assert!(places.len() > 300, "only {} types", places.len());
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn a_declaration_is_found_wherever_it_stands() {
    let code = "pub struct A(u8); pub(crate) enum B<T> { C(T) } mod m { trait D { type E; } } type F = A;
        impl D for A { type E = u8; fn f() -> impl Fn() { struct G { r#type: u8 } } }
        fn g() { type H = u8; } // struct I;
        const J: &str = \"struct K;\";";
    let mut found = Vec::new();
    types(code.parse().unwrap(), false, &mut found);
    assert_eq!(found, ["A", "B", "D", "F", "G", "H"]);
}

#[test]
fn the_socket_to_ask_is_looked_up_in_one_place() {
    let mut files = Vec::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let names = |word: &str| -> Vec<String> {
        let has = |file: &&std::path::PathBuf| fs::read_to_string(file).is_ok_and(|text| text.contains(word));
        let name = |file: &std::path::PathBuf| {
            file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string()
        };
        files.iter().filter(has).map(name).collect()
    };
    assert_eq!(names("\"BANSTREAM_SOCKET\""), ["src/control/client.rs"]);
    // The daemon listens there; all others ask `client::socket_of`.
    let mut known = names("control.path");
    known.retain(|file| !file.ends_with("tests.rs"));
    known.sort();
    assert_eq!(known, ["src/control/client.rs", "src/daemon/mod.rs"]);
}
