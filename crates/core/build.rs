//! Lists the shipped grammars: a file in a folder of `grammars` is all that a new one takes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=grammars");
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for kind in folder(Path::new("grammars"))?.into_iter().filter(|path| path.is_dir()) {
        let grammars =
            folder(&kind)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "grammar"));
        files.extend(grammars.filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path))));
    }
    files.sort();
    // From the package's folder on, which may be another by the time it is compiled.
    let text = |path| format!("include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/\", {path:?}))");
    let mut list = String::from("&[");
    for (name, path) in files {
        write!(list, "({name:?}, {}),", text(path)).map_err(io::Error::other)?;
    }
    list.push(']');
    fs::write(Path::new(&env::var("OUT_DIR").map_err(io::Error::other)?).join("shipped.rs"), list)
}

fn folder(path: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}
