//! An example as cargo built it beside the tests.

use std::path::{Path, PathBuf};

pub(crate) fn binary(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let built = this.parent().and_then(Path::parent).unwrap();
    let binary = built.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let shown = binary.display();
    assert!(binary.exists(), "{shown} is missing: `cargo test` builds it, or `cargo build --example {name}`");
    binary
}
