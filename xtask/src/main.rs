//! `cargo xtask VERB`: what cargo alone cannot do.
//!
//! Each verb installs what it needs, and says what it does before it does it.

use std::env;
use std::process::ExitCode;

mod bench;
mod guests;
mod run;
mod setup;
mod step;
#[cfg(test)]
mod table;
mod test;

const USAGE: &str = "\
usage: cargo xtask VERB

  run      build the host and the chat, and serve it on 127.0.0.1:3001 with hot reload [OPTIONS of dev]
  test     run every test, or those of the host that have a word in their name [WORD ..];
           ends in a line `N passed, N failed`
  guests   build the plugins and the guests of the tests
  bench    measure against a plain server and print one table [--only ECHO,.. --rounds N --quick]
";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match verb.as_str() {
        "run" => run::run(&rest),
        "test" => test::test(&rest),
        "guests" => guests::build().map(|()| ExitCode::SUCCESS),
        "bench" => bench::bench(&rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
