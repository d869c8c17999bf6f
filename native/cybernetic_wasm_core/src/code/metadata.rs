//! What a component says of itself, in its custom sections. Nobody has looked whether it is true.

use crate::error::shown;
use serde::{Deserialize, Serialize};
use wasmparser::{ComponentName, CustomSectionReader, KnownCustom};

/// Producers that are told of. Each module in a component may name a dozen.
const MOST_PRODUCERS: usize = 100;

/// Those that are read of one section: the same ones come again and again.
const MOST_READ: usize = 1_000;

/// What a component says of itself. Texts are cut.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Who wrote it.
    pub authors: Option<String>,
    /// Its licences, as an expression of SPDX.
    pub licences: Option<String>,
    /// Where more is said of it.
    pub homepage: Option<String>,
    /// Where its source is.
    pub source: Option<String>,
    /// Which revision of the source it was made of.
    pub revision: Option<String>,
    /// What it and its modules were made with.
    pub producers: Vec<Producer>,
}

/// Something that a component or a module in it was made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    /// `language`, `sdk` or `processed-by`.
    pub role: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Metadata {
    /// Takes in a custom section of the component's own.
    pub(super) fn note(&mut self, section: &CustomSectionReader<'_>) {
        if let KnownCustom::ComponentName(names) = section.as_known() {
            let own = names.into_iter().map_while(Result::ok).find_map(|name| match name {
                ComponentName::Component { name, .. } => Some(shown::name(name)),
                _ => None,
            });
            self.name = own.or(self.name.take());
        }
        let text = match section.name() {
            "version" => &mut self.version,
            "description" => &mut self.description,
            "authors" => &mut self.authors,
            "licenses" => &mut self.licences,
            "homepage" => &mut self.homepage,
            "source" => &mut self.source,
            "revision" => &mut self.revision,
            _ => return,
        };
        *text = std::str::from_utf8(section.data()).ok().map(shown::text);
    }

    /// Takes in a custom section of the component's, or of a part of it.
    pub(super) fn note_producers(&mut self, section: &CustomSectionReader<'_>) {
        let KnownCustom::Producers(fields) = section.as_known() else { return };
        for field in fields.into_iter().map_while(Result::ok) {
            for made_with in field.values.into_iter().map_while(Result::ok).take(MOST_READ) {
                let (name, version) = (shown::name(made_with.name), shown::name(made_with.version));
                let producer = Producer { role: shown::name(field.name), name, version };
                if self.producers.len() < MOST_PRODUCERS && !self.producers.contains(&producer) {
                    self.producers.push(producer);
                }
            }
        }
    }
}
