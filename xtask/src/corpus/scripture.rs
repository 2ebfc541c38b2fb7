//! Scripture, the same chapters in English and Spanish: one topic, two languages.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use moescope_corpus::{Document, Domain};

use super::clean::clean;
use super::packages::Folders;
use super::sword;
use super::thin::thin;

/// Shorter chapters are remains of another numbering of the verses.
const SHORTEST: usize = 200;

/// Both domains, with the same chapter names in the same order.
pub(super) fn domains(folders: &Folders, budget: usize) -> Result<(Domain, Domain)> {
    let texts = "usr/share/sword/modules/texts/ztext";
    let english = sword::chapters(&folders.of("sword-text-web")?.join(texts).join("engWEB2015eb"))?;
    let spanish = sword::chapters(&folders.of("sword-text-sparv")?.join(texts).join("spaRV1909eb"))?;
    let spanish: BTreeMap<String, String> = spanish.into_iter().collect();
    let shared: Vec<Document> = english
        .into_iter()
        .filter(|(name, text)| {
            text.len() >= SHORTEST && spanish.get(name).is_some_and(|text| text.len() >= SHORTEST)
        })
        .map(|(name, text)| Document::new(name, clean(&text)))
        .collect();
    ensure!(shared.len() > 1000, "only {} chapters are in both languages; wanted over 1000", shared.len());
    let english = thin(shared, budget);
    let translated =
        english.iter().map(|chapter| Document::new(&chapter.name, clean(&spanish[&chapter.name]))).collect();
    Ok((Domain::new("scripture_en", english), Domain::new("scripture_es", translated)))
}
