//! The `banstream` program.

use std::io::BufRead;
use std::process::ExitCode;

use banstream::grammar::Grammar;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut code = ExitCode::SUCCESS;
    match words.split_first() {
        Some((&"check", files)) => {
            for file in files {
                let name = file.rsplit('/').next().unwrap_or("").trim_end_matches(".grammar");
                match Grammar::load("x", file, &std::fs::read_to_string(file).unwrap_or_default()) {
                    Ok((_, faults)) => {
                        faults.iter().for_each(|f| println!("{f}"));
                        println!("{name}: fine");
                    }
                    Err(faults) => {
                        faults.iter().for_each(|f| println!("{f}"));
                        code = ExitCode::from(1);
                    }
                }
            }
        }
        Some((&"explain", [file])) => {
            // explain FILE.grammar < messages
            let Ok((grammar, _)) = Grammar::load("x", file, &std::fs::read_to_string(file).unwrap_or_default())
            else {
                return ExitCode::from(2);
            };
            for line in std::io::stdin().lock().split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&line);
                match grammar.read(&line) {
                    Some(found) => {
                        println!("{} {} line {}: {text}", found.address(), found.heading(), found.line())
                    }
                    None => println!("- {text}"),
                }
            }
        }
        _ => code = ExitCode::from(2),
    }
    code
}
