//! Components of strangers: random ones, and good ones damaged.

use super::{bytes_from, check, number_from_environment, passing, tight};
use crate::support::{Driver, Loaded, OpenCall, load, property, try_load};
use arbitrary::Unstructured;
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::engine::{EngineConfig, Metering};
use cybernetic_wasm_core::error::LoadError;
use cybernetic_wasm_core::execution::Execution;
use cybernetic_wasm_core::value::Value;
use cybernetic_wasm_core::wit::{Item, Kind, Passed, Type, Typed, Val};
use proptest::prelude::{any, prop};

const VALUES: &[u8] = include_bytes!("../../../../../test/fixtures/components/values.wasm");
const RESOURCES: &str = include_str!("../../../../../test/fixtures/components/resources.wat");

/// The first value of a type that anybody would think of. There is none of a resource.
fn least(ty: &Type) -> Option<Val> {
    let boxed = |ty: &Option<Type>| ty.as_ref().map(least).map_or(Some(None), |value| Some(Some(Box::new(value?))));
    Some(match ty {
        Type::Bool => Val::Bool(false),
        Type::S8 => Val::S8(0),
        Type::U8 => Val::U8(0),
        Type::S16 => Val::S16(0),
        Type::U16 => Val::U16(0),
        Type::S32 => Val::S32(0),
        Type::U32 => Val::U32(0),
        Type::S64 => Val::S64(0),
        Type::U64 => Val::U64(0),
        Type::F32 => Val::Float32(0.),
        Type::F64 => Val::Float64(0.),
        Type::Char => Val::Char('a'),
        Type::String => Val::String("a".into()),
        Type::List(_) => Val::List(Vec::new()),
        Type::Option(_) => Val::Option(None),
        Type::Flags(_) => Val::Flags(Vec::new()),
        Type::Enum(names) => Val::Enum(names.first()?.to_string()),
        Type::Tuple(types) => Val::Tuple(types.iter().map(least).collect::<Option<_>>()?),
        Type::Record(fields) => {
            Val::Record(fields.iter().map(|(name, ty)| Some((name.to_string(), least(ty)?))).collect::<Option<_>>()?)
        }
        Type::Variant(cases) => {
            cases.first().and_then(|(name, ty)| Some(Val::Variant(name.to_string(), boxed(ty)?)))?
        }
        Type::Result(types) => Val::Result(Ok(boxed(&types.0)?)),
        Type::Own(_) | Type::Borrow(_) => return None,
    })
}

fn value(ty: &Type) -> Option<Value> {
    let passed = if ty.is_bytes() { Passed::Bytes(vec![7; 3]) } else { Passed::Val(least(ty)?) };
    Some(Typed { ty: ty.clone(), passed, carried: Vec::new() }.into())
}

/// Calls each function that a component exports and whose arguments there are. Says whether anything ran.
fn exercise(component: &Loaded) -> bool {
    let simple = |call: &mut OpenCall<'_>| {
        let code = call.execution.importer(call.host_call).unwrap();
        code.imports()[call.import() as usize].wit()?.result.iter().map(value).collect()
    };
    let tight = tight(component.requested().metering);
    let (_, exports) = component.world().unwrap();
    let mut ran = false;
    for (item, func) in exports.iter().filter_map(function).take(10) {
        let args: Option<Vec<_>> = func.params.iter().map(|(_, ty)| value(ty)).collect();
        let (Some(args), Ok(function)) = (args, component.function(&item.path())) else { continue };
        let mut execution = Execution::call(&component.module, &function, args, component.setup(tight.clone()));
        match Driver::with_host(&simple).values(&mut execution) {
            Ok(_) => ran = true,
            Err(error) => {
                check(&error);
                ran |= !matches!(error, Error::Link(_));
            }
        }
    }
    let instance = Driver::with_host(&simple).instance(component, tight);
    instance.map_or_else(|error| check(&error), drop);
    ran
}

fn function(item: &Item) -> Option<(&Item, &cybernetic_wasm_core::wit::Func)> {
    if let Kind::Func(func) = &item.kind { Some((item, func)) } else { None }
}

fn load_and_exercise(source: &[u8]) {
    match try_load(passing(), source, passing().default_config()) {
        Ok(loaded) if loaded.is_component() => _ = exercise(&loaded),
        // A module, once a byte of the header was changed.
        Ok(_) => {}
        Err(Error::Load(LoadError::CompilerFailed(why))) => panic!("{why}"),
        Err(error) => assert!(matches!(error, Error::Load(_)), "{error:?}"),
    }
}

fn sources() -> [Vec<u8>; 2] {
    [VALUES.to_vec(), wat::parse_str(RESOURCES).unwrap()]
}

/// How many are damaged in each way, `CYBERNETIC_WASM_DAMAGED` where that is set.
fn damaged(default: u64) -> u32 {
    number_from_environment("CYBERNETIC_WASM_DAMAGED", default) as u32
}

#[test]
fn the_components_that_are_about_to_be_damaged_are_sound() {
    for source in sources() {
        assert!(exercise(&load(passing(), source)));
    }
}

#[test]
fn a_component_cut_off_anywhere_is_refused() {
    for source in sources() {
        property(damaged(200), 0..source.len(), |length| {
            load_and_exercise(&source[..length]);
            Ok(())
        });
    }
}

#[test]
fn a_component_with_flipped_bits_is_refused_or_runs_within_its_limits() {
    for source in sources() {
        let flips = prop::collection::vec((0..source.len(), 0_u8..8), 1..4);
        property(damaged(60), flips, |flips| {
            let mut damaged = source.clone();
            flips.iter().for_each(|(at, bit)| damaged[*at] ^= 1 << bit);
            load_and_exercise(&damaged);
            Ok(())
        });
    }
}

#[test]
fn a_component_with_bytes_cut_out_repeated_or_overwritten_is_refused_or_runs_within_its_limits() {
    for source in sources() {
        let length = source.len();
        property(damaged(100), (0..length, 0_usize..40, any::<[u8; 5]>(), 0_u8..3), |(at, span, bytes, way)| {
            let end = (at + span).min(length);
            let middle = match way {
                0 => Vec::new(),
                1 => source[at..end].repeat(2),
                _ => bytes.to_vec(),
            };
            load_and_exercise(&[&source[..at], &middle, &source[end..]].concat());
            Ok(())
        });
    }
}

#[test]
fn random_bytes_behind_the_header_of_a_component_are_refused() {
    property(
        2_000,
        prop::collection::vec(prop::sample::select((0_u8..=20).chain([96, 255]).collect::<Vec<_>>()), 0..200),
        |bytes| {
            load_and_exercise(&[b"\0asm\x0d\0\x01\0", &bytes[..]].concat());
            Ok(())
        },
    );
}

/// `CYBERNETIC_WASM_SMITH` sets how many, `CYBERNETIC_WASM_SEED` from which seed.
#[test]
fn strange_components_are_refused_or_run_within_their_limits() {
    let components = number_from_environment("CYBERNETIC_WASM_SMITH", 400);
    let (first, mut made) = (number_from_environment("CYBERNETIC_WASM_SEED", 0), 0);
    for seed in first.. {
        if made == components {
            break;
        }
        let bytes = bytes_from(seed, 4_000);
        let config = wasm_smith::Config { max_components: 4, max_instances: 4, ..wasm_smith::Config::default() };
        let Ok(component) = wasm_smith::Component::new(config, &mut Unstructured::new(&bytes)) else { continue };
        made += 1;
        let metering = if seed % 4 == 0 { Metering::Epoch } else { Metering::Fuel };
        let engine = EngineConfig { metering, deterministic: seed % 8 == 1, ..passing().default_config() };
        match try_load(passing(), component.to_bytes(), engine) {
            Ok(component) => _ = exercise(&component),
            Err(error @ Error::Load(LoadError::CompilerFailed(_))) => panic!("seed {seed}: {error:?}"),
            Err(error) => assert!(matches!(error, Error::Load(_)), "seed {seed}: {error:?}"),
        }
    }
}
