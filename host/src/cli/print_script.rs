//! `print-script`: prints a script without its types.

use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cli::print_output;
use crate::script_source::without_types;

/// Print one file of a script as JavaScript, without its types
///
/// The module "jackfield/typescript" calls it, so that tests of handlers in TypeScript run in every version of Node.js.
/// Imports stay as they are.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = "Example:\n  jackfield print-script handler.ts")]
pub struct PrintScript {
    /// A file in JavaScript or TypeScript
    file: PathBuf,
}

impl PrintScript {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (mut code, source_map) = without_types(&self.file)?;
        if let Some(map) = source_map {
            let map = STANDARD.encode(map);
            code.push_str(&format!("\n//# sourceMappingURL=data:application/json;base64,{map}\n"));
        }
        print_output(&code)?;
        Ok(ExitCode::SUCCESS)
    }
}
