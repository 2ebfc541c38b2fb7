//! What neurons are asked for: yes-or-no features of tokens, and the same features shuffled.

use std::collections::BTreeMap;

use moescope_base::Seed;
use rand::seq::SliceRandom;

/// Where a feature comes from, which decides how it may be shuffled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of whole documents: their domain.
    Domain,
    /// Of token ids: their class.
    Class,
}

impl Kind {
    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Domain => "domain",
            Kind::Class => "class of the token",
        }
    }
}

/// A yes or no for each token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Feature {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// `[token]`.
    pub(super) holds: Vec<bool>,
    /// What the answer belongs to, `[token]`: the document, or the token's id.
    units: Vec<u32>,
}

/// Tokens with a yes below which a feature is not asked for.
const FEWEST: usize = 30;

impl Feature {
    /// The features `codes[token] == number`, for each name; `units` says what the codes belong to. Those that hold for fewer than 30
    /// tokens, for more than half, or in fewer than `documents` documents are left out.
    pub(super) fn of_codes(
        kind: Kind,
        names: &[String],
        codes: &[u32],
        units: &[u32],
        documents: (&[u32], usize),
    ) -> Vec<Feature> {
        let feature = |(number, name): (usize, &String)| {
            let holds: Vec<bool> = codes.iter().map(|code| *code as usize == number).collect();
            let mut seen: Vec<u32> =
                holds.iter().zip(documents.0).filter(|(holds, _)| **holds).map(|(_, d)| *d).collect();
            let yes = seen.len();
            seen.sort_unstable();
            seen.dedup();
            let asked = yes >= FEWEST && 2 * yes <= codes.len() && seen.len() >= documents.1;
            asked.then(|| Feature { name: name.clone(), kind, holds, units: units.to_vec() })
        };
        names.iter().enumerate().filter_map(feature).collect()
    }

    /// The same answers dealt out to other documents, or to other token ids: whatever the neurons tell of the feature is destroyed, and
    /// that tokens of a document, or of an id, have the same answer is kept.
    pub(super) fn shuffled(&self, seed: Seed) -> Vec<bool> {
        let answers: BTreeMap<u32, bool> =
            self.units.iter().copied().zip(self.holds.iter().copied()).collect();
        let mut dealt: Vec<bool> = answers.values().copied().collect();
        dealt.shuffle(&mut seed.rng());
        let dealt: BTreeMap<u32, bool> = answers.into_keys().zip(dealt).collect();
        self.units.iter().map(|unit| dealt[unit]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffling_keeps_units_together_and_their_number() {
        let units: Vec<u32> = (0..120).map(|token| token / 10).collect();
        let codes: Vec<u32> = units.iter().map(|unit| u32::from(*unit < 4)).collect();
        let names = ["no", "yes"].map(String::from);
        let found = Feature::of_codes(Kind::Domain, &names, &codes, &units, (&units, 3));
        assert_eq!(
            found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
            ["yes"],
            "`no` is the larger half"
        );
        let mut moved = 0;
        for seed in 0..20 {
            let shuffled = found[0].shuffled(Seed(seed));
            assert_eq!(shuffled.iter().filter(|holds| **holds).count(), 40);
            assert!(shuffled.chunks(10).all(|unit| unit.iter().all(|holds| *holds == unit[0])));
            moved += usize::from(shuffled != found[0].holds);
        }
        assert!(moved > 17);
    }

    #[test]
    fn rare_features_and_those_of_few_documents_are_not_asked_for() {
        let units: Vec<u32> = (0..300).map(|token| token / 50).collect();
        let ask =
            |codes: &[u32]| Feature::of_codes(Kind::Class, &["x".into()], codes, codes, (&units, 3)).len();
        let first = |count: usize| (0..300).map(|token| u32::from(token >= count)).collect::<Vec<u32>>();
        assert_eq!([ask(&first(29)), ask(&first(60)), ask(&first(140)), ask(&first(200))], [0, 0, 1, 0]);
    }
}
