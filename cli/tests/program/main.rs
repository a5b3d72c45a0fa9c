//! The command line as a program, without a hub.

mod health;
mod render;
mod validate;
mod workflows;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

fn run(command: &str, folder: &Path, arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    program.arg(command).args(arguments).current_dir(folder).output().expect("it starts")
}

/// The test programs that render have an engine from `./dev test`.
fn needs_engine() {
    assert!(std::env::var_os("BELLWETHER_RENDER_ENGINE").is_some(), "`./dev test` builds the engine and names it");
}
