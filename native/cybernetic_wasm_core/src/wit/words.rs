//! Types as WIT writes them.

use super::{Func, Name, Type};
use std::fmt::{self, Display, Formatter};

/// Parts of a type that are spelt out: the rest is an ellipsis, since an error has many.
const SPELT_OUT: usize = 32;

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Type::Bool => f.write_str("bool"),
            Type::S8 => f.write_str("s8"),
            Type::U8 => f.write_str("u8"),
            Type::S16 => f.write_str("s16"),
            Type::U16 => f.write_str("u16"),
            Type::S32 => f.write_str("s32"),
            Type::U32 => f.write_str("u32"),
            Type::S64 => f.write_str("s64"),
            Type::U64 => f.write_str("u64"),
            Type::F32 => f.write_str("f32"),
            Type::F64 => f.write_str("f64"),
            Type::Char => f.write_str("char"),
            Type::String => f.write_str("string"),
            Type::List(ty) => write!(f, "list<{ty}>"),
            Type::Option(ty) => write!(f, "option<{ty}>"),
            Type::Tuple(types) => {
                f.write_str("tuple<")?;
                separated(f, types.iter(), |f, ty| ty.fmt(f))?;
                f.write_str(">")
            }
            Type::Record(fields) => braced(f, "record", fields.iter(), |f, (name, ty)| write!(f, "{name}: {ty}")),
            Type::Variant(cases) => braced(f, "variant", cases.iter(), |f, (name, ty)| match ty {
                Some(ty) => write!(f, "{name}({ty})"),
                None => f.write_str(name),
            }),
            Type::Enum(names) => braced(f, "enum", names.iter(), write_name),
            Type::Flags(names) => braced(f, "flags", names.iter(), write_name),
            Type::Result(types) => match &**types {
                (None, None) => f.write_str("result"),
                (Some(ok), None) => write!(f, "result<{ok}>"),
                (None, Some(error)) => write!(f, "result<_, {error}>"),
                (Some(ok), Some(error)) => write!(f, "result<{ok}, {error}>"),
            },
            Type::Own(resource) => f.write_str(&resource.name),
            Type::Borrow(resource) => write!(f, "borrow<{}>", resource.name),
        }
    }
}

fn write_name(f: &mut Formatter<'_>, name: &Name) -> fmt::Result {
    f.write_str(name)
}

fn braced<T>(
    f: &mut Formatter<'_>,
    word: &str,
    parts: impl ExactSizeIterator<Item = T>,
    write: impl Fn(&mut Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    write!(f, "{word} {{ ")?;
    separated(f, parts, write)?;
    f.write_str(" }")
}

fn separated<T>(
    f: &mut Formatter<'_>,
    parts: impl ExactSizeIterator<Item = T>,
    write: impl Fn(&mut Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    let others = parts.len() > SPELT_OUT;
    for (index, part) in parts.take(SPELT_OUT).enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write(f, part)?;
    }
    if others { f.write_str(", …") } else { Ok(()) }
}

impl Display for Func {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("func(")?;
        separated(f, self.params.iter(), |f, (name, ty)| write!(f, "{name}: {ty}"))?;
        f.write_str(")")?;
        self.result.as_ref().map_or(Ok(()), |ty| write!(f, " -> {ty}"))
    }
}
