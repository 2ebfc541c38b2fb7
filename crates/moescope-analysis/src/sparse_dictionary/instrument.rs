//! The instrument `dictionary`.

use std::collections::BTreeMap;

use moescope_base::{HookPoint, Seed, Site};
use moescope_dictionary::Rows;

use super::learned::{Learned, learn};
use super::letters::{Absorbed, absorbed};
use super::losses::{Lost, judging, lost};
use super::sites::{BLOCKS, Gathered, Part, SEQUENCES, gather, parts, sites};
use super::{METHOD, report};
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::sequences::drawn;
use crate::{AnalysisError, Sample, check};

/// The instrument `dictionary`.
///
/// Dictionaries are of one size at all sites, so that what they explain can be compared: an expert sees few tokens, and a dictionary as
/// large as that of the stream has an easy task there. The null beside each number says how easy.
pub struct SparseDictionaries;

/// The stream after the last block of a model of the bench.
const STREAM: &[(&str, &str)] = &[("site", "blocks.1.hook_resid_post")];

const EXPLAINED: Reading = Reading {
    says: "a dictionary explains more of the stream than of Gaussian rows",
    table: "dictionaries",
    rows: STREAM,
    value: "explained",
    rule: Rule::Significant,
};

const FOUND_AGAIN: Reading = Reading {
    says: "a quarter of the features is found again in other documents",
    table: "dictionaries",
    rows: STREAM,
    value: "found_again",
    rule: Rule::MoreThan(0.25),
};

const PROMISES: &[Promise] = &[
    Promise::finds(Property::SparseFeatures, EXPLAINED),
    Promise::finds(Property::SparseFeatures, FOUND_AGAIN),
    Promise::is_silent(Property::BlendedStream, EXPLAINED),
    Promise::is_silent(Property::BlendedStream, FOUND_AGAIN),
];

impl Instrument for SparseDictionaries {
    fn about(&self) -> About {
        About {
            name: "dictionary",
            group: Group::Representation,
            question: "What do sparse dictionaries of one size explain of the stream, of what a layer adds and of one expert, and are their features found again?",
            null: "dictionaries of Gaussian rows of the same mean and covariance; the numbers of every matrix of the model in another order; for the loss, the mean of the site",
            does_not_show: "that the model computes with these features, nor what larger dictionaries would find, nor training, unless more is explained than with the weights in another order",
            source: "top-k autoencoders, Gao et al. 2024 (arXiv 2406.04093); loss recovered, Bricken et al. 2023; features found again across seeds, Paulo and Belrose 2025 (arXiv 2501.16615), here across documents as well; absorption, Chanin et al. 2024 (arXiv 2409.14507)",
            passes: "4 of at most 256 sequences, and 3 for each of at most 6 sites, of at most 64; 8 trainings of 51,200 rows for each site",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let samples = drawn(material, METHOD, SEQUENCES)?;
        let documents: Vec<u32> = samples.iter().flat_map(Sample::documents).copied().collect();
        let parts = parts(&documents, material.seed.child(METHOD))?;
        let judging = judging(&samples, &parts)?;
        let mut rows = Vec::new();
        for points in sites(material, BLOCKS)? {
            for site in gather(material, &samples, &points)? {
                let seed = site_seed(material.seed, &site.point);
                let Some(learned) = learn(&site, &parts, seed, material.resampling(METHOD))? else {
                    continue;
                };
                let (first, _) = site.part(&parts, Part::First)?;
                let place = (&learned.dictionary, site.point, &first);
                let lost = lost(material, &judging, place, material.resampling("loss of dictionaries"))?;
                let stream = site.point.site() == Site::ResidPost;
                let absorbed = match stream && !material.words.is_empty() {
                    true => absorbed(&learned.dictionary, &site, &material.words, seed)?,
                    false => None,
                };
                let features = features(&learned, &site)?;
                rows.push(Row { learned, lost, absorbed, features, site: site.point });
            }
        }
        check::at_least(
            METHOD,
            "sites with rows that vary, 256 or more in each part of the documents,",
            rows.len(),
            1,
        )?;
        let scrambled = material.scrambled(METHOD, |material| explained(material, &samples, &parts))?;
        report::finding(&rows, &scrambled.unwrap_or_default(), material)
    }
}

/// What dictionaries explain at each site, the excess over those of Gaussian rows included.
fn explained(
    material: &mut Material<'_>,
    samples: &[Sample],
    parts: &BTreeMap<u32, Part>,
) -> Result<Explained, AnalysisError> {
    let mut found = Explained::new();
    for points in sites(material, BLOCKS)? {
        for site in gather(material, samples, &points)? {
            let seed = site_seed(material.seed, &site.point);
            if let Some(learned) = learn(&site, parts, seed, material.resampling(METHOD))? {
                let beyond = learned.explained.estimate - learned.explained_null;
                found.insert(kind_of(&site.point), [beyond, learned.found]);
            }
        }
    }
    Ok(found)
}

/// Explained variance beyond Gaussian rows, and the share of features found again, of each kind of site.
pub(super) type Explained = BTreeMap<(Option<usize>, Site), [f64; 2]>;

/// Where draws at a site come from. The most used expert has no number here: what it is called decides nothing.
pub(super) fn site_seed(seed: Seed, site: &HookPoint) -> Seed {
    let (layer, kind) = kind_of(site);
    seed.child(METHOD).child(kind.name()).index(layer.unwrap_or(0) as u64)
}

/// Layer and kind of a site. The most used expert of a layer need not be the same with other weights.
pub(super) fn kind_of(site: &HookPoint) -> (Option<usize>, Site) {
    (site.layer(), site.site())
}

/// What is said of one site.
pub(super) struct Row {
    pub(super) site: HookPoint,
    pub(super) learned: Learned,
    pub(super) lost: Option<Lost>,
    pub(super) absorbed: Option<Absorbed>,
    /// Features that are found again best.
    pub(super) features: Vec<Feature>,
}

/// One feature and its tokens.
pub(super) struct Feature {
    pub(super) feature: usize,
    /// Tokens with the largest part of its activation, with that part.
    pub(super) tokens: Vec<(u32, f64)>,
}

/// Features of a site that are told.
const TOLD: usize = 8;
/// Tokens that are told of each.
const TOKENS: usize = 4;

/// The active features whose cosine with one of the second dictionary is largest, with the tokens that carry them.
pub(super) fn features(learned: &Learned, site: &Gathered) -> Result<Vec<Feature>, AnalysisError> {
    let mut order: Vec<usize> = (0..learned.cosines.len()).filter(|f| learned.densities[*f] > 0.0).collect();
    order.sort_by(|a, b| learned.cosines[*b].total_cmp(&learned.cosines[*a]).then(a.cmp(b)));
    order.truncate(TOLD);
    let active = learned.dictionary.encode(&Rows::of(site.rows.clone()).input)?;
    let of = |feature: usize| {
        let mut parts = std::collections::BTreeMap::<u32, f64>::new();
        for (id, row) in site.ids.iter().zip(active.data().chunks_exact(active.columns())) {
            *parts.entry(*id).or_default() += f64::from(row[feature]);
        }
        let all: f64 = parts.values().sum();
        let mut tokens: Vec<(u32, f64)> = parts.into_iter().map(|(id, part)| (id, part / all)).collect();
        tokens.retain(|(_, part)| *part > 0.0);
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        tokens.truncate(TOKENS);
        Feature { feature, tokens }
    };
    Ok(order.into_iter().map(of).collect())
}
