//! The work itself: from a source to code. It runs in a process of its own (`cybernetic_wasm_compiler`), or on a thread here.

use super::job::Request;
use crate::code::instrument::instrument;
use crate::code::{Outline, explain, image, to_binary};
use crate::engine::CodeConfig;
use crate::error::Error;
use std::borrow::Cow;

/// Compiles module after module.
#[derive(Default)]
pub struct Workshop {
    /// The engine of the last module, and what it was made for.
    engine: Option<((CodeConfig, u64), wasmtime::Engine)>,
}

/// A compiled module.
pub struct Product<'a> {
    pub(crate) outline: Outline,
    /// The binary format: the source itself, where it is in that.
    pub(crate) wasm: Cow<'a, [u8]>,
    pub(crate) code: Vec<u8>,
}

impl Workshop {
    /// Does one job.
    pub fn compile<'a>(&mut self, request: &Request, source: &'a [u8]) -> Result<Product<'a>, Error> {
        let mut wasm = to_binary(source)?;
        if request.instrument {
            wasm = instrument(&wasm)?.into();
        }
        let mut outline = Outline::read(&wasm, request.refuse_deep)?;
        let engine = self.engine(request.config, image::most_empty(&wasm))?;
        let code = match outline.is_component() {
            true => engine.precompile_component(&wasm),
            false => engine.precompile_module(&wasm),
        };
        let code = code.map_err(|error| explain(&wasm, request.config.features, error))?;
        outline.declare(&wasm);
        Ok(Product { outline, wasm, code })
    }

    fn engine(&mut self, config: CodeConfig, most_empty: u64) -> Result<&wasmtime::Engine, Error> {
        let wanted = (config, most_empty);
        let known = self.engine.take().filter(|(known, _)| *known == wanted);
        let engine = match known {
            Some((_, engine)) => engine,
            None => config.engine(most_empty).map_err(Error::internal)?,
        };
        Ok(&self.engine.insert((wanted, engine)).1)
    }
}

/// Code in a memory file that nobody can change: all that load it share its pages. `None` where there can be none, and for
/// little code: a file takes a descriptor for as long as the module lives.
#[cfg(target_os = "linux")]
pub(super) fn sealed(code: &[u8]) -> Option<std::os::fd::OwnedFd> {
    (code.len() as u64 > cybernetic_wasm_artifact::LITTLE).then(|| cybernetic_wasm_artifact::seal(code).ok()).flatten()
}

/// Hands a module over to the VM.
#[cfg(target_os = "linux")]
pub fn hand_over(
    vm: &std::os::unix::net::UnixStream,
    product: &Product<'_>,
    word: impl FnOnce(super::job::Answer) -> super::job::Word,
) -> std::io::Result<()> {
    use super::job::{Answer, Done};
    use std::os::fd::AsFd;

    let Product { outline, wasm, code } = product;
    let file = sealed(code);
    let binary: &[u8] = if let Cow::Owned(wasm) = wasm { wasm } else { &[] };
    let done = Done {
        outline: outline.clone(),
        binary: matches!(wasm, Cow::Owned(_)).then_some(binary.len() as u64),
        code: code.len() as u64,
    };
    let inline: &[u8] = if file.is_some() { &[] } else { code };
    super::wire::send(vm, &word(Answer::Done(Box::new(done))), &[binary, inline], file.as_ref().map(AsFd::as_fd))
}
