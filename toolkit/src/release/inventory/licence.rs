//! Which licence a text is, by SPDX's name for it: a Go module states none.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use spdx::detection::scan::Scanner;
use spdx::detection::{Store, TextData};

use super::Texts;
use crate::images::Digest;
use sluice_shell::error::{Explain, Result};

/// How much of a text must be that of a licence. Names and years are the rest of it.
const LIKENESS: f32 = 0.9;

/// What a person read, where the comparison of texts tells less or something else: the module, the licence, and the
/// sha256 of the texts that were read.
const READ: [(&str, &str, &str); 3] = [
    // Without its appendix the text is as near to Pixar's, which changes one paragraph.
    ("github.com/spf13/cobra", "Apache-2.0", "9ba27493bc08ceef3cd3eb6da799c78cfff622b2efcc2ec0fbac95c9e48601c7"),
    // Its documents have a licence of their own. They are in no program.
    (
        "github.com/opencontainers/go-digest",
        "Apache-2.0",
        "24b9d891793417bb5f0e5d547ad58e34dcb7e4dc1377c069c681a91d733e59b3",
    ),
    // One file with three licences, of parts that come from elsewhere.
    (
        "sigs.k8s.io/yaml",
        "Apache-2.0 AND BSD-3-Clause AND MIT",
        "43abf143bf5c5aa6f91e1f88ce63d4ea1d868d5e6ae6c3b4203b77a864830433",
    ),
];

/// Tells licences by their texts.
pub(super) struct Licences {
    known: Store,
    /// What texts were found to be: many modules have the same ones.
    seen: RefCell<BTreeMap<Vec<u8>, BTreeSet<String>>>,
}

/// A text that is no licence of SPDX's list, or one of those in [`READ`] that has changed.
#[derive(Debug, thiserror::Error)]
#[error("the licence of {module} is not known: {file} with the sha256 {digest}")]
struct Unknown {
    module: String,
    file: String,
    digest: String,
}

impl Explain for Unknown {
    fn hint(&self) -> Option<String> {
        Some("read it, and say what it is in toolkit/src/release/inventory/licence.rs".to_owned())
    }
}

impl Licences {
    /// With the texts of SPDX's list.
    pub(super) fn load() -> Result<Self> {
        let known = Store::load_inline().map_err(|error| anyhow::anyhow!("the list of licences: {error}"))?;
        Ok(Self { known, seen: RefCell::default() })
    }

    /// All licences of a module, which has these texts, as an expression of SPDX.
    pub(super) fn of(&self, module: &str, texts: &Texts) -> Result<String> {
        let digest = Digest::of(&texts.joined()).hex();
        if let Some((_, licence, read)) = READ.iter().find(|(name, ..)| *name == module) {
            let unknown = || Unknown { module: module.into(), file: "all".into(), digest: digest.clone() };
            return if *read == digest { Ok((*licence).to_owned()) } else { Err(unknown().into()) };
        }
        let mut all = BTreeSet::new();
        for (file, text) in texts.licences() {
            let found = self.in_text(text);
            if found.is_empty() {
                return Err(Unknown { module: module.into(), file: file.into(), digest }.into());
            }
            all.extend(found);
        }
        if all.is_empty() {
            return Err(Unknown { module: module.into(), file: "nothing".into(), digest }.into());
        }
        Ok(all.into_iter().collect::<Vec<_>>().join(" AND "))
    }

    /// The licences that stand in a text.
    fn in_text(&self, text: &[u8]) -> BTreeSet<String> {
        let mut seen = self.seen.borrow_mut();
        let found = seen.entry(text.to_owned()).or_insert_with(|| {
            let scanner = Scanner::new(&self.known).confidence_threshold(LIKENESS).optimize(true);
            let text = TextData::new(&String::from_utf8_lossy(text));
            let result = scanner.scan(&text);
            let parts = result.containing.iter().map(|part| part.license.name);
            let names: BTreeSet<String> = parts.map(str::to_owned).collect();
            let whole = result.license.map(|licence| licence.name.to_owned());
            if names.is_empty() { whole.into_iter().collect() } else { names }
        });
        found.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn texts(files: &[(&str, &str)]) -> Texts {
        Texts(files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect())
    }

    const MIT: &str = include_str!("licence/MIT.txt");

    #[test]
    fn licences_are_told_by_their_texts() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let apache = fs_err::read_to_string(root.join("LICENSE")).unwrap();
        let both = format!("{apache}\n\n---\n\n{MIT}");
        let licences = Licences::load().unwrap();
        for (files, expected) in [
            (&[("LICENSE", apache.as_str())][..], "Apache-2.0"),
            (&[("LICENSE.txt", MIT), ("NOTICE", "ours"), ("PATENTS", "none")], "MIT"),
            (&[("COPYING", MIT), ("LICENSE", &apache)], "Apache-2.0 AND MIT"),
            (&[("LICENSE", &both)], "Apache-2.0 AND MIT"),
        ] {
            assert_eq!(licences.of("a.b/c", &texts(files)).unwrap(), expected);
        }
    }

    #[test]
    fn a_text_that_nobody_knows_is_refused() {
        let licences = Licences::load().unwrap();
        let error = licences.of("a.b/c", &texts(&[("COPYING", MIT), ("LICENSE", "do as you like")])).unwrap_err();
        assert!(
            error.to_string().starts_with("the licence of a.b/c is not known: LICENSE with the sha256 "),
            "{error}"
        );
        licences.of("a.b/c", &texts(&[("NOTICE", MIT)])).unwrap_err();
        // What was read has changed.
        licences.of("sigs.k8s.io/yaml", &texts(&[("LICENSE", MIT)])).unwrap_err();
    }
}
