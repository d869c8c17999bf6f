//! From terms to values.

use crate::atoms;
use crate::resources::OwnedResource;
use crate::terms::kept::KeptTerm;
use crate::terms::value::{Terms, Value, f32_bits, f64_bits, given, integer};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::error::{CallError, shown};
use cybernetic_wasm_core::lane::{INLINE_VALUES, Lane};
use cybernetic_wasm_core::wit::{Carried, Func, Handle, Name, Passed, Resource, Type, Typed, Val};
use rustler::types::tuple::get_tuple;
use rustler::{Atom, Binary, ListIterator, MapIterator, ResourceArc, Term, TermType};
use std::sync::Arc;

/// What Wasmtime has a value in, whatever it is.
const VALUE: u64 = 40;

/// Why terms are no values yet.
pub(crate) enum Undecoded {
    /// They cannot be.
    Error(Error),
    /// They can be made on a dirty scheduler.
    Dirty,
    /// Elixir has to make lists of what it alone can look into, where these types have lists.
    Enumerate(Vec<Type>),
}

impl<E: Into<Error>> From<E> for Undecoded {
    fn from(error: E) -> Self {
        Undecoded::Error(error.into())
    }
}

/// How much may be made of terms.
pub(crate) struct Room {
    left: u64,
    allowed: u64,
    /// What may still be made on a normal scheduler.
    inline: Option<u64>,
    /// The resources in what has been made.
    carried: Vec<Carried>,
}

impl Room {
    pub(crate) fn new(allowed: u64, lane: Lane) -> Self {
        Self { left: allowed, allowed, inline: (lane == Lane::Inline).then_some(INLINE_VALUES), carried: Vec::new() }
    }

    fn take(&mut self, bytes: u64) -> Result<(), Fault> {
        if let Some(inline) = &mut self.inline {
            *inline = inline.checked_sub(bytes).ok_or(Fault::Dirty)?;
        }
        let allowed = self.allowed;
        let too_much = || Fault::at_most(allowed);
        self.left = self.left.checked_sub(bytes).ok_or_else(too_much)?;
        Ok(())
    }
}

/// What is wrong with a term, and where in it.
enum Fault {
    Part(Box<Part>),
    Dirty,
    Enumerate,
}

struct Part {
    path: String,
    expected: String,
    given: String,
}

impl Fault {
    fn new(expected: impl Into<String>, given: impl Into<String>) -> Self {
        Fault::Part(Box::new(Part { path: String::new(), expected: expected.into(), given: given.into() }))
    }

    fn of(ty: &Type, term: Term<'_>) -> Self {
        Self::new(shown::text(&ty.to_string()), given(term))
    }

    fn at_most(allowed: u64) -> Self {
        Self::new(format!("at most {allowed} bytes, as the host holds them (option :max_transfer)"), "more")
    }

    /// The same, seen from outside of `step`.
    fn within(mut self, step: impl FnOnce() -> String) -> Self {
        if let Fault::Part(part) = &mut self {
            part.path.insert_str(0, &step());
        }
        self
    }

    fn undecoded<'t>(
        self,
        types: impl Iterator<Item = &'t Type>,
        index: usize,
        start: impl FnOnce() -> String,
    ) -> Undecoded {
        match self.within(start) {
            Fault::Part(part) => {
                let Part { path, expected, given } = *part;
                Undecoded::Error(CallError::Part { index, path: shown::text(&path), expected, given }.into())
            }
            Fault::Dirty => Undecoded::Dirty,
            Fault::Enumerate => Undecoded::Enumerate(types.map(Clone::clone).collect()),
        }
    }
}

type Decoded<T> = Result<T, Fault>;

/// The arguments of a function: their number has been checked.
pub(crate) fn decode_arguments(func: &Func, terms: Terms<'_>, mut room: Room) -> Result<Vec<Value>, Undecoded> {
    let mut values = Vec::with_capacity(terms.len());
    for (index, (term, (name, ty))) in terms.into_iter().zip(&func.params).enumerate() {
        let start = || format!("argument {} ({:?})", index + 1, &**name);
        let types = func.params.iter().map(|(_, ty)| ty);
        values.push(typed(term, ty, &mut room).map_err(|fault| fault.undecoded(types, index, start))?);
    }
    Ok(values)
}

/// What a host function returned, as its type has it: the number of results has been checked.
pub(crate) fn decode_result(func: &Func, terms: Terms<'_>, mut room: Room) -> Result<Vec<Value>, Undecoded> {
    let results = terms.into_iter().zip(&func.result);
    results
        .map(|(term, ty)| {
            let undecoded = |fault: Fault| fault.undecoded(func.result.iter(), 0, || "result".into());
            typed(term, ty, &mut room).map_err(undecoded)
        })
        .collect()
}

/// A whole argument or result: one that is bytes stays that.
fn typed(term: Term<'_>, ty: &Type, room: &mut Room) -> Decoded<Value> {
    let passed = match ty.is_bytes() {
        true => {
            let bytes = bytes(term, ty, room)?;
            room.take(bytes.len() as u64)?;
            Passed::Bytes(bytes.to_vec())
        }
        false => Passed::Val(decode(term, ty, room)?),
    };
    Ok(Typed { ty: ty.clone(), passed, carried: std::mem::take(&mut room.carried) }.into())
}

fn decode(term: Term<'_>, ty: &Type, room: &mut Room) -> Decoded<Val> {
    room.take(VALUE)?;
    let value = match ty {
        Type::Bool => term.decode().ok().map(Val::Bool),
        Type::S8 => number(term, i8::MIN, i8::MAX).map(Val::S8),
        Type::U8 => number(term, u8::MIN, u8::MAX).map(Val::U8),
        Type::S16 => number(term, i16::MIN, i16::MAX).map(Val::S16),
        Type::U16 => number(term, u16::MIN, u16::MAX).map(Val::U16),
        Type::S32 => number(term, i32::MIN, i32::MAX).map(Val::S32),
        Type::U32 => number(term, u32::MIN, u32::MAX).map(Val::U32),
        Type::S64 => number(term, i64::MIN, i64::MAX).map(Val::S64),
        Type::U64 => number(term, u64::MIN, u64::MAX).map(Val::U64),
        Type::F32 => f32_bits(term).map(|bits| Val::Float32(f32::from_bits(bits))),
        Type::F64 => f64_bits(term).map(|bits| Val::Float64(f64::from_bits(bits))),
        Type::Char => character(term).map(Val::Char),
        Type::String => return string(term, room).map(Val::String),
        Type::List(_) if ty.is_bytes() => {
            let bytes = bytes(term, ty, room)?;
            room.take(VALUE.saturating_mul(bytes.len() as u64))?;
            return Ok(Val::List(bytes.iter().map(|byte| Val::U8(*byte)).collect()));
        }
        Type::List(element) => return list(term, (ty, element), room).map(Val::List),
        Type::Record(fields) => return record(term, (ty, fields), room).map(Val::Record),
        Type::Tuple(types) => return tuple(term, (ty, types), room).map(Val::Tuple),
        Type::Variant(cases) => return variant(term, (ty, cases), room),
        Type::Enum(names) => find(term, names.iter()).map(|index| Val::Enum(names[index].to_string())),
        Type::Flags(names) => return flags(term, (ty, names)).map(Val::Flags),
        Type::Option(inner) => return option(term, (ty, inner), room).map(Val::Option),
        Type::Result(types) => return result(term, (ty, types), room).map(Val::Result),
        Type::Own(of) => return resource(term, (ty, of), room, Carried::Own),
        Type::Borrow(of) => return resource(term, (ty, of), room, Carried::Borrow),
    };
    value.ok_or_else(|| Fault::of(ty, term))
}

/// An integer within these bounds. Neither a float nor an atom is one.
fn number<T: TryFrom<i128> + Into<i128>>(term: Term<'_>, least: T, most: T) -> Option<T> {
    integer(term, least.into(), most.into())?.try_into().ok()
}

/// A code point, or a string of one character.
fn character(term: Term<'_>) -> Option<char> {
    if let Ok(code) = term.decode::<u32>() {
        return char::from_u32(code);
    }
    let bytes = term.decode::<Binary<'_>>().ok()?;
    let mut characters = std::str::from_utf8(bytes.as_slice().get(..bytes.len().min(5))?).ok()?.chars();
    let first = characters.next()?;
    characters.next().is_none().then_some(first)
}

fn string(term: Term<'_>, room: &mut Room) -> Decoded<String> {
    let iodata = iodata(term, room)?.ok_or_else(|| Fault::of(&Type::String, term))?;
    room.take(iodata.len() as u64)?;
    let text = std::str::from_utf8(&iodata).map_err(|_| Fault::new("string", "bytes that are no UTF-8"))?;
    Ok(text.to_owned())
}

/// A binary, or a list of such and of bytes. How long that is nobody knows before it has been gone through.
fn iodata<'a>(term: Term<'a>, room: &Room) -> Decoded<Option<Binary<'a>>> {
    match term.get_type() {
        TermType::Binary => Ok(term.decode().ok()),
        TermType::List if room.inline.is_some() && !term.is_empty_list() => Err(Fault::Dirty),
        TermType::List => Ok(Binary::from_iolist(term).ok()),
        _ => Ok(None),
    }
}

fn bytes<'a>(term: Term<'a>, ty: &Type, room: &Room) -> Decoded<Binary<'a>> {
    iodata(term, room)?.ok_or_else(|| only_elixir(term).unwrap_or_else(|| Fault::of(ty, term)))
}

/// A struct or a function may be an enumerable, which only Elixir can look into.
fn only_elixir(term: Term<'_>) -> Option<Fault> {
    let maybe = match term.get_type() {
        TermType::Fun => true,
        TermType::Map => term.map_get(atoms::__struct__()).is_ok(),
        _ => false,
    };
    maybe.then_some(Fault::Enumerate)
}

fn list(term: Term<'_>, (ty, element): (&Type, &Type), room: &mut Room) -> Decoded<Vec<Val>> {
    if let Some(fault) = only_elixir(term) {
        return Err(fault);
    }
    if let (Type::Tuple(types), Ok(pairs)) = (element, term.decode::<MapIterator<'_>>())
        && let [key, value] = &types[..]
    {
        return map(pairs, (key, value), room);
    }
    let (Ok(length), Ok(terms)) = (term.list_length(), term.decode::<ListIterator<'_>>()) else {
        return Err(Fault::of(ty, term));
    };
    let mut values = Vec::with_capacity(length);
    for (index, term) in terms.enumerate() {
        values.push(decode(term, element, room).map_err(|fault| fault.within(|| format!("[{index}]")))?);
    }
    Ok(values)
}

/// A map as the list of its pairs.
fn map(pairs: MapIterator<'_>, (key, value): (&Type, &Type), room: &mut Room) -> Decoded<Vec<Val>> {
    let mut values = Vec::new();
    for (index, pair) in pairs.enumerate() {
        room.take(VALUE)?;
        let key = decode(pair.0, key, room).map_err(|fault| fault.within(|| format!("[{index}][0]")))?;
        let value = decode(pair.1, value, room).map_err(|fault| fault.within(|| format!("[{index}][1]")))?;
        values.push(Val::Tuple(vec![key, value]));
    }
    Ok(values)
}

fn record(term: Term<'_>, (ty, fields): (&Type, &[(Name, Type)]), room: &mut Room) -> Decoded<Vec<(String, Val)>> {
    let size = term.map_size().map_err(|_| Fault::of(ty, term))?;
    let mut values = Vec::with_capacity(fields.len());
    let by_keys = by_keys(term, fields, size);
    for (index, (name, ty)) in fields.iter().enumerate() {
        let found = by_keys.as_ref().map_or_else(|| field(term, name), |found| Some(found[index]));
        let found = found.ok_or_else(|| Fault::new(ty.to_string(), "nothing").within(|| format!(".{name}")))?;
        let value = decode(found, ty, room).map_err(|fault| fault.within(|| format!(".{name}")))?;
        values.push((name.to_string(), value));
    }
    match size == fields.len() {
        true => Ok(values),
        false => Err(unknown_field(term, fields)),
    }
}

/// The values of all fields, in their order, where the map has these keys and no others: to go through a small map takes less time
/// than to look each field up.
fn by_keys<'a>(term: Term<'a>, fields: &[(Name, Type)], size: usize) -> Option<Vec<Term<'a>>> {
    const SMALL: usize = 32;
    if size != fields.len() || size > SMALL {
        return None;
    }
    let mut found = vec![None; size];
    for (key, value) in term.decode::<MapIterator<'_>>().ok()? {
        let index = find(key, fields.iter().map(|(name, _)| name))?;
        if found[index].replace(value).is_some() {
            return None;
        }
    }
    found.into_iter().collect()
}

/// The field of that name: a string as WIT has it, an atom, or either in snake case.
fn field<'a>(term: Term<'a>, name: &str) -> Option<Term<'a>> {
    let env = term.get_env();
    let by = |name: &str| {
        let text = crate::terms::binary(env, name.as_bytes());
        let atom = || Atom::existing_from_utf8_bytes(env, name.as_bytes()).ok();
        term.map_get(text).ok().or_else(|| term.map_get(atom()?).ok())
    };
    by(name).or_else(|| name.contains('-').then(|| by(&snake(name)))?)
}

fn unknown_field(term: Term<'_>, fields: &[(Name, Type)]) -> Fault {
    let known = |key: Term<'_>| find(key, fields.iter().map(|(name, _)| name)).is_some();
    let pairs = term.decode::<MapIterator<'_>>().into_iter().flatten();
    let unknown = pairs.map(|(key, _)| key).find(|key| !known(*key));
    let names: Vec<&str> = fields.iter().take(20).map(|(name, _)| &**name).collect();
    let given = match unknown.map(name_of) {
        Some(Some(name)) => format!("{:?} as well", shown::name(&name)),
        Some(None) => "a key that is no name".to_owned(),
        None => "one of them twice".to_owned(),
    };
    Fault::new(format!("the fields {}", names.join(", ")), given)
}

fn snake(name: &str) -> String {
    name.replace('-', "_")
}

/// Whether it is the name in snake case.
fn is_snake(given: &str, name: &str) -> bool {
    let same = |(given, letter): (u8, u8)| given == if letter == b'-' { b'_' } else { letter };
    given.len() == name.len() && given.bytes().zip(name.bytes()).all(same)
}

/// What a string or an atom says.
fn name_of(term: Term<'_>) -> Option<String> {
    match term.get_type() {
        TermType::Atom => term.atom_to_string().ok(),
        TermType::Binary => std::str::from_utf8(term.decode::<Binary<'_>>().ok()?.as_slice()).ok().map(str::to_owned),
        _ => None,
    }
}

/// Which of these names a term is.
fn find<'n>(term: Term<'_>, mut names: impl Iterator<Item = &'n Name>) -> Option<usize> {
    match term.get_type() {
        TermType::Binary => {
            let given = term.decode::<Binary<'_>>().ok()?;
            names.position(|name| name.as_bytes() == given.as_slice())
        }
        TermType::Atom => {
            let given = term.atom_to_string().ok()?;
            names.position(|name| **name == *given || is_snake(&given, name))
        }
        _ => None,
    }
}

fn tuple(term: Term<'_>, (ty, types): (&Type, &[Type]), room: &mut Room) -> Decoded<Vec<Val>> {
    let terms = get_tuple(term).ok().filter(|terms| terms.len() == types.len()).ok_or_else(|| Fault::of(ty, term))?;
    let values = terms
        .into_iter()
        .zip(types)
        .enumerate()
        .map(|(index, (term, ty))| decode(term, ty, room).map_err(|fault| fault.within(|| format!("[{index}]"))));
    values.collect()
}

fn variant(term: Term<'_>, (ty, cases): (&Type, &[(Name, Option<Type>)]), room: &mut Room) -> Decoded<Val> {
    let (name, payload) = match get_tuple(term).ok().as_deref() {
        Some([name, payload]) => (*name, Some(*payload)),
        Some(_) => return Err(Fault::of(ty, term)),
        None => (term, None),
    };
    let case = find(name, cases.iter().map(|(name, _)| name)).map(|index| &cases[index]);
    let value = match (case, payload) {
        (Some((name, Some(ty))), Some(payload)) => {
            let value = decode(payload, ty, room).map_err(|fault| fault.within(|| format!(".{name}")))?;
            Val::Variant(name.to_string(), Some(Box::new(value)))
        }
        (Some((name, None)), None) => Val::Variant(name.to_string(), None),
        (Some((name, Some(ty))), None) => {
            return Err(Fault::new(format!("{{{:?}, {ty}}}", &**name), format!("{:?} alone", &**name)));
        }
        (Some((name, None)), Some(_)) => {
            return Err(Fault::new(format!("{:?} alone", &**name), format!("{:?} with a value", &**name)));
        }
        (None, _) => return Err(Fault::of(ty, term)),
    };
    Ok(value)
}

/// Flags in the order of their declaration, however they are given.
fn flags(term: Term<'_>, (ty, names): (&Type, &[Name])) -> Decoded<Vec<String>> {
    if let Some(fault) = only_elixir(term) {
        return Err(fault);
    }
    let terms = term.decode::<ListIterator<'_>>().map_err(|_| Fault::of(ty, term))?;
    // Whether the list is proper is known at its end alone.
    term.list_length().map_err(|_| Fault::of(ty, term))?;
    let mut set = vec![false; names.len()];
    for (index, term) in terms.enumerate() {
        let found = find(term, names.iter());
        let found = found.ok_or_else(|| Fault::of(ty, term).within(|| format!("[{index}]")))?;
        set[found] = true;
    }
    Ok(names.iter().zip(set).filter(|(_, set)| *set).map(|(name, _)| name.to_string()).collect())
}

fn option(term: Term<'_>, (ty, inner): (&Type, &Type), room: &mut Room) -> Decoded<Option<Box<Val>>> {
    if let Ok(atom) = term.decode::<Atom>() {
        return if atom == atoms::none() || atom == atoms::nil() { Ok(None) } else { Err(Fault::of(ty, term)) };
    }
    match term.decode::<(Atom, Term<'_>)>() {
        Ok((tag, value)) if tag == atoms::some() => {
            Ok(Some(Box::new(decode(value, inner, room).map_err(|fault| fault.within(|| ".some".into()))?)))
        }
        _ => Err(Fault::of(ty, term)),
    }
}

type Outcome = Result<Option<Box<Val>>, Option<Box<Val>>>;

fn result(term: Term<'_>, (ty, types): (&Type, &(Option<Type>, Option<Type>)), room: &mut Room) -> Decoded<Outcome> {
    let (tag, value) = match term.decode::<Atom>() {
        Ok(atom) => (atom, None),
        Err(_) => {
            term.decode::<(Atom, Term<'_>)>().map(|(tag, value)| (tag, Some(value))).map_err(|_| Fault::of(ty, term))?
        }
    };
    let (ok, inner) = match tag {
        tag if tag == atoms::ok() => (true, &types.0),
        tag if tag == atoms::error() => (false, &types.1),
        _ => return Err(Fault::of(ty, term)),
    };
    let step = || if ok { ".ok".to_owned() } else { ".error".to_owned() };
    let value = match (inner, value) {
        (Some(ty), Some(value)) => Some(Box::new(decode(value, ty, room).map_err(|fault| fault.within(step))?)),
        (None, None) => None,
        _ => return Err(Fault::of(ty, term)),
    };
    Ok(if ok { Ok(value) } else { Err(value) })
}

/// A resource has its place in a value as the number of what comes beside it.
fn resource(
    term: Term<'_>,
    (ty, resource): (&Type, &Resource),
    room: &mut Room,
    of_guest: fn(Arc<Handle>) -> Carried,
) -> Decoded<Val> {
    let carried = match resource.host {
        true => of_host(term, room)?,
        false => of_guest(handle(term, (ty, resource))?),
    };
    room.carried.push(carried);
    Ok(Val::U32(room.carried.len() as u32 - 1))
}

/// Any term is a resource of the host's. How large it is nobody knows before it has been copied.
fn of_host(term: Term<'_>, room: &Room) -> Decoded<Carried> {
    let may_be_large = matches!(term.get_type(), TermType::List | TermType::Tuple | TermType::Map | TermType::Fun);
    match room.inline.is_some() && may_be_large {
        true => Err(Fault::Dirty),
        false => Ok(Carried::Term(Arc::new(KeptTerm::new(term)))),
    }
}

/// One of the guest's: whether it is of this guest the core says.
fn handle(term: Term<'_>, (ty, resource): (&Type, &Resource)) -> Decoded<Arc<Handle>> {
    let reference =
        term.map_get(atoms::reference()).ok().and_then(|term| term.decode::<ResourceArc<OwnedResource>>().ok());
    let handle = Arc::clone(&reference.ok_or_else(|| Fault::of(ty, term))?.0);
    let given = match handle.resource() {
        other if other != resource => shown::name(&other.name),
        _ if !handle.is_kept() => "a resource that has been dropped or given away".into(),
        _ => return Ok(handle),
    };
    Err(Fault::new(shown::text(&ty.to_string()), given))
}
