//! What a component comes to: its modules together, and how many instances of them one of it may be made of.

use super::{Component, Outline};
use crate::error::LoadError;
use wasmparser::{ComponentInstance, Encoding, Instance, Parser, Payload};

/// Instances of modules in one of a component's. Components that have others in them multiply these; a language's runtime that is
/// made of many libraries has 16.
const MOST_INSTANCES: u64 = 1_000;

/// A module or a component that is being read.
enum Part {
    Module(Box<Outline>),
    Component(Instances),
}

/// What a component instantiates.
#[derive(Default)]
struct Instances {
    modules: u64,
    components: u64,
}

/// What has been read of a component.
#[derive(Default)]
struct Whole {
    outline: Outline,
    component: Component,
    /// Instances that any of the components that have been read is made of at the most: whichever of them another instantiates.
    most: u64,
}

/// Reads a component's modules, each as a module by itself.
pub(super) fn read(wasm: &[u8], refuse_deep: bool) -> Result<Outline, LoadError> {
    let (mut whole, mut open) = (Whole::default(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => open.push(Part::Module(Box::default())),
            Payload::Version { .. } => open.push(Part::Component(Instances::default())),
            Payload::End(_) => {
                let part = open.pop();
                part.map_or(Ok(()), |part| whole.add(part))?;
            }
            Payload::CustomSection(section) => {
                // Those that are in one of its parts are not its own.
                if open.len() == 1 {
                    whole.outline.note_section(section.name(), section.data().len());
                    whole.component.metadata.note(&section);
                }
                whole.component.metadata.note_producers(&section);
            }
            payload => match open.last_mut() {
                Some(Part::Module(module)) => module.read_payload(payload, wasm, refuse_deep)?,
                Some(Part::Component(instances)) => instances.count(payload),
                None => {}
            },
        }
    }
    whole.component.instances = whole.most;
    Ok(Outline { component: Some(whole.component), ..whole.outline })
}

impl Instances {
    fn count(&mut self, payload: Payload<'_>) {
        match payload {
            Payload::InstanceSection(section) => {
                let made = section.into_iter().map_while(Result::ok);
                self.modules += made.filter(|made| matches!(made, Instance::Instantiate { .. })).count() as u64;
            }
            Payload::ComponentInstanceSection(section) => {
                let made = section.into_iter().map_while(Result::ok);
                self.components +=
                    made.filter(|made| matches!(made, ComponentInstance::Instantiate { .. })).count() as u64;
            }
            _ => {}
        }
    }
}

impl Whole {
    fn add(&mut self, part: Part) -> Result<(), LoadError> {
        match part {
            Part::Module(module) => self.add_module(&module),
            Part::Component(instances) => self.add_component(&instances),
        }
    }

    fn add_module(&mut self, module: &Outline) -> Result<(), LoadError> {
        module.check_imports()?;
        self.component.too_large |= !module.fits_pool();
        self.component.instance_bytes = self.component.instance_bytes.max(module.instance_bytes());
        let outline = &mut self.outline;
        outline.memories = outline.memories.saturating_add(module.memories);
        outline.widest = outline.widest.max(module.widest);
        outline.most_fields = outline.most_fields.max(module.most_fields);
        outline.throws |= module.throws;
        outline.collects |= module.collects;
        Ok(())
    }

    fn add_component(&mut self, instances: &Instances) -> Result<(), LoadError> {
        let Instances { modules, components } = instances;
        let made = components.saturating_mul(self.most).saturating_add(*modules);
        self.most = self.most.max(made);
        match made > MOST_INSTANCES {
            true => Err(LoadError::Unsupported(format!(
                "an instance of it is made of {made} instances of modules, at most {MOST_INSTANCES}"
            ))),
            false => Ok(()),
        }
    }
}
