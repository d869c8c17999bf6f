//! Slices of time, lanes, and what is counted.

use super::*;

/// Steps to the end on one lane, and gives how often it yielded.
fn yields_on(lane: Lane, execution: &mut Execution) -> usize {
    let lanes = [lane];
    let driver = Driver::default().on(&lanes);
    driver.values(execution).unwrap();
    driver.yields()
}

#[test]
fn a_call_that_takes_long_ends_its_slices_by_itself() {
    // Hardly any fuel is used, so that the guest alone would never come up for air.
    for lane in [Lane::Inline, Lane::Dirty] {
        let grants = Grants { random: Random::Seeded(1), ..nothing() };
        let mut execution = start(&guest(), ("randoms", &i32s(&[500_000, 200])), grants, limits());
        let yields = yields_on(lane, &mut execution);
        assert!(execution.usage().fuel.unwrap() < 50_000, "{:?}", execution.usage());
        // A hundred megabytes: two milliseconds on no machine.
        assert!(yields >= 2, "{yields} in {lane:?}");
        assert_eq!(execution.usage().slices as usize, yields + 1);
    }
}

#[test]
fn many_short_calls_end_their_slices_too() {
    // However the guest's own code is metered.
    let module = load(shared(), GUEST);
    for metering in [Metering::Fuel, Metering::Epoch] {
        let engine = EngineConfig { metering, ..*module.requested() };
        let function = module.function("spam").unwrap();
        let setup = Setup { grants: Some(Arc::new(nothing())), ..module.setup_for(engine, limits()) };
        let mut execution = Execution::call(&module.module, &function, i32s(&[900_000]), setup);
        let yields = yields_on(Lane::Inline, &mut execution);
        assert!(yields >= 10, "{yields} by {metering:?}");
        assert_eq!(execution.usage().host_calls, 900_000);
    }
}

#[test]
fn a_guest_that_yields_yields() {
    for lane in [Lane::Inline, Lane::Dirty] {
        let mut execution = begin("yields", &i32s(&[25]), nothing());
        assert!(yields_on(lane, &mut execution) >= 25, "{lane:?}");
    }
}

/// Whether what is left of a call can be done in one slice on a normal scheduler. A busy machine may cut it, but not always.
fn fits_inline(mut begin: impl FnMut() -> Execution) -> bool {
    (0..1_000).any(|_| matches!(begin().step(Lane::Inline), Step::Finished(_)))
}

#[test]
fn file_work_leaves_the_normal_scheduler_and_nothing_else_does() {
    assert!(fits_inline(|| begin("words", &[], stdio())), "there are no files");

    let dir = tempfile::tempdir().unwrap();
    let granted = || directory(dir.path(), true);
    let mut execution = begin("write_new", &i32s(&[1, 10]), granted());
    assert!(matches!(execution.step(Lane::Inline), Step::Yielded), "the directory is opened");
    // Opening, which is done on another thread besides, and writing: each is left to a dirty scheduler.
    let mut hops = 0;
    loop {
        match execution.step(Lane::Inline) {
            Step::Yielded => hops += 1,
            Step::Waiting => wait(&execution),
            _ => break,
        }
    }
    assert!(hops >= 2, "{hops}");
    assert_eq!(std::fs::metadata(dir.path().join("001")).unwrap().len(), 10);

    let made = || {
        let mut execution = begin("args", &[], granted());
        assert!(matches!(execution.step(Lane::Inline), Step::Yielded));
        execution
    };
    assert!(fits_inline(made), "arguments are no file");
}

#[test]
fn each_call_is_counted_and_so_limited() {
    let within = Limits { max_host_calls: 10, ..limits() };
    let mut execution = start(&guest(), ("spam", &i32s(&[10])), nothing(), within.clone());
    assert!(Driver::default().values(&mut execution).is_ok());
    assert_eq!(execution.usage().host_calls, 10);
    for (name, args) in [("spam", vec![Value::I32(11)]), ("yields", i32s(&[11])), ("randoms", i32s(&[1, 11]))] {
        let mut execution = start(&guest(), (name, &args), nothing(), within.clone());
        let error = Driver::default().values(&mut execution).unwrap_err();
        assert_eq!(error, LimitError::new(Limit::HostCalls, 10, 11).into());
    }
}
