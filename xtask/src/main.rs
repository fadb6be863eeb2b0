//! `cargo xtask VERB`: the tasks of the project that need more than one cargo command.
//!
//! Each verb installs the tools that it needs, and prints each step before it runs it.

use std::env;
use std::process::ExitCode;

#[cfg(test)]
mod api_gateway_page;
mod bench;
mod bundler;
mod cluster;
mod deploy;
mod engines;
mod guests;
mod harm;
mod lints;
mod run;
mod setup;
mod step;
mod test;
#[cfg(test)]
mod tidy;

const USAGE: &str = "\
usage: cargo xtask VERB

  run      build the host and the chat, and serve it on 127.0.0.1:3001 with hot reload [OPTIONS of dev]
  cluster  serve the chat, or the PROJECT, by several nodes behind HAProxy on 127.0.0.1:3001, with a Redis of their own
           [--nodes N --port PORT --binary FILE] [PROJECT]
  test     run every test, or only those tests of the host with a WORD in their name [WORD ..];
           the last line is `N passed, N failed`
  guests   build the plugins and the guests of the tests
  engines  build the engines of scripts into target/engines, or only some parts: JavaScript with a C compiler for
           WebAssembly, the bundler for scripts with imports, Python with componentize-py from PyPI
           [javascript|bundler|python ..]
  bench    measure jackfield and a plain server, and print one table [--only ECHO,.. --rounds N --quick]
  harm     attack a server of the release profile, or of the dev profile with --dev, and print one table;
           only the attacks with a WORD in their name [--dev] [WORD ..]
";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let result = match verb.as_str() {
        "run" => run::run(&arguments),
        "cluster" => cluster::cluster(&arguments),
        "test" => test::test(&arguments),
        "guests" => guests::build().map(|()| ExitCode::SUCCESS),
        "engines" => engines::build(&arguments).map(|()| ExitCode::SUCCESS),
        "bench" => bench::bench(&arguments),
        "harm" => harm::harm(&arguments),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
