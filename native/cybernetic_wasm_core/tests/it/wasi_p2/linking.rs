//! What a component may import of WASI, and what becomes of it.

use super::*;

/// A component that imports one function, and exports nothing that calls it.
fn importing(interface: &str, function: &str) -> String {
    format!(
        r#"(component
          (import "{interface}" (instance $i {function}))
          (core module $m (func (export "f") (result i32) i32.const 7))
          (core instance $m (instantiate $m))
          (func (export "f") (result u32) (canon lift (core func $m "f"))))"#
    )
}

const NOW: &str = r#"(export "now" (func (result u64)))"#;

fn called(source: &str) -> Result<Vec<Value>, Error> {
    crate::support::call(&load(shared(), source), "f", &[])
}

#[test]
fn a_component_that_imports_it_runs_without_a_grant() {
    assert!(called(&importing("wasi:clocks/monotonic-clock@0.2.6", NOW)).is_ok());
}

#[test]
fn each_release_of_0_2_is_served() {
    for version in ["0.2.0", "0.2.3", "0.2.12", "0.2.99"] {
        let interface = format!("wasi:clocks/monotonic-clock@{version}");
        assert!(called(&importing(&interface, NOW)).is_ok(), "{version}");
    }
}

#[test]
fn what_wasi_has_not_is_a_problem_that_names_it() {
    for (function, name) in
        [(r#"(export "later" (func (result u64)))"#, "later"), (r#"(export "now" (func (result u32)))"#, "now")]
    {
        match called(&importing("wasi:clocks/monotonic-clock@0.2.6", function)) {
            Err(Error::Link(problems)) => {
                let text = format!("{problems:?}");
                assert!(text.contains("wasi:clocks/monotonic-clock@0.2.6") && text.contains(name), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_called_like_it_is_the_embedders() {
    for interface in
        ["wasi:clocks/monotonic-clock@0.2.0-rc", "wasi:clocks/monotonic-clock@0.1.0", "wasi:keyvalue/store@0.2.0"]
    {
        let source = importing(interface, NOW);
        assert!(called(&source).is_ok(), "{interface}: it is linked as any other interface is");
    }
}

#[test]
fn a_module_does_not_import_it() {
    let source =
        r#"(module (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func (result i64))) (func (export "f")))"#;
    let module = load(shared(), source);
    assert_eq!(module.imports().len(), 1, "a function like any other");
    assert!(crate::support::call(&module, "f", &[]).is_ok());
}

#[test]
fn nothing_is_left_of_guests_that_keep_all_they_open() {
    let runtime = own(|_| {});
    let guest = guest_on(&runtime);
    for _ in 0..20 {
        assert_eq!(ended(start_on(&guest, &["streams", "1000"], stdio(), limits())).said(), "1000");
    }
    eventually_unused(&runtime);
    assert_eq!(runtime.ceilings().files(), 0);
}

#[test]
fn a_file_that_is_no_component_is_refused_as_such() {
    assert!(try_load(shared(), b"\0asm\x0d\0\x01\0\xff", shared().default_config()).is_err());
}
