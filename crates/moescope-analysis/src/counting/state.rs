//! Counts as integers that can be stored, read and added up elsewhere.

use moescope_trace::SumGroup;
use serde::{Deserialize, Serialize};

use super::layer::{keys, take_key};
use super::{CellSample, CountingPlan, METHOD, PathLabels, RouteCounts, rows};
use crate::AnalysisError;

/// Version of the form in which counts are stored.
const SCHEMA: u32 = 2;

const PATHS: [&str; 2] = ["paths_of_sets", "paths_of_first_choices"];

/// What stored counts say about themselves; the integers lie beside, see [`RouteCounts::groups`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountsManifest {
    /// Version of the form.
    pub schema: u32,
    /// Sizes of tables and samples.
    pub plan: CountingPlan,
    /// Names of the rows of `domain`.
    pub domains: Vec<String>,
    /// Documents of each domain.
    pub documents: Vec<u64>,
    /// Names of the rows of `class`.
    pub classes: Vec<String>,
    /// Tokens counted.
    pub tokens: u64,
    /// Largest token id seen.
    pub largest_id: u32,
    /// Block, experts and experts of each token, for each routed layer.
    pub layers: Vec<(usize, usize, usize)>,
    /// Levels of the samples of paths: a distinct key was kept with probability `2^−level`.
    pub path_levels: [u32; 2],
    /// Levels of the samples of sets, for each routed layer.
    pub set_levels: Vec<u32>,
    /// Levels of the samples of labels of paths: of sets by domain and by class, then of first choices.
    pub path_label_levels: [u32; 4],
    /// Levels of the samples of bigrams and of documents, for each routed layer.
    pub row_levels: Vec<[u32; 2]>,
    /// Names of what was counted.
    pub parts: Vec<String>,
    /// Whether a part began within a window.
    pub cut: bool,
}

/// Counts while stored integers are added to them.
#[derive(Debug)]
pub struct Filling<'a> {
    counts: &'a mut RouteCounts,
    domains: Vec<u32>,
    classes: Vec<u32>,
}

impl RouteCounts {
    /// What the counts are of. Names are in order of the alphabet, whatever the order in which they came.
    pub fn manifest(&self) -> CountsManifest {
        let order = sorted_places(&self.domains);
        CountsManifest {
            schema: SCHEMA,
            plan: self.plan,
            domains: self.domain_names(),
            documents: order.iter().map(|place| self.documents[*place]).collect(),
            classes: sorted_places(&self.classes).iter().map(|place| self.classes[*place].clone()).collect(),
            tokens: self.tokens,
            largest_id: self.largest_id,
            layers: self.layers.iter().map(|l| (l.layer, l.experts, l.per_token)).collect(),
            path_levels: [self.paths[0].level(), self.paths[1].level()],
            set_levels: self.layers.iter().map(|layer| layer.sets.level()).collect(),
            path_label_levels: std::array::from_fn(|at| self.path_labels[at / 2].0[at % 2].level()),
            row_levels: self.layers.iter().map(|layer| layer.row_samples().map(CellSample::level)).collect(),
            parts: self.parts.clone(),
            cut: self.cut,
        }
    }

    /// Everything counted, as integers that add up cell by cell as long as the levels of the manifests agree.
    pub fn groups(&self) -> Vec<SumGroup> {
        let ranks = [ranks(&self.domains), ranks(&self.classes)];
        let layers = self.layers.iter().flat_map(|layer| layer.groups([&ranks[0], &ranks[1]]));
        let paths = self.paths.iter().zip(PATHS).map(|(sample, name)| keys(name, -1, sample));
        let of = |(labels, name): (&PathLabels, &&str)| labels.groups(name, [&ranks[0], &ranks[1]]);
        layers.chain(paths).chain(self.path_labels.iter().zip(&PATHS).flat_map(of)).collect()
    }

    /// Makes room for stored counts; their groups follow.
    ///
    /// # Errors
    /// As [`RouteCounts::add`], and if the counts were stored by another version or under another plan.
    pub fn begin(&mut self, stored: &CountsManifest) -> Result<Filling<'_>, AnalysisError> {
        if stored.schema != SCHEMA {
            return Err(wrong(
                "the version of stored counts",
                stored.schema,
                &format!("{SCHEMA}; count again"),
            ));
        }
        if stored.plan != self.plan {
            let wanted = format!("{:?}; count with the same sizes", self.plan);
            return Err(wrong("the plan of stored counts", format!("{:?}", stored.plan), &wanted));
        }
        let lengths = (stored.documents.len(), stored.set_levels.len(), stored.row_levels.len());
        if lengths != (stored.domains.len(), stored.layers.len(), stored.layers.len()) {
            return Err(wrong("a list of stored counts", "of another length", "one entry for each name"));
        }
        self.admit(&stored.parts, &stored.layers, stored.tokens, stored.cut)?;
        let domains = self.rows_of_domains(&stored.domains);
        for (row, documents) in domains.iter().zip(&stored.documents) {
            self.documents[*row as usize] += documents;
        }
        let classes = rows(&mut self.classes, &stored.classes);
        self.tokens += stored.tokens;
        self.largest_id = self.largest_id.max(stored.largest_id);
        self.paths.iter_mut().zip(stored.path_levels).for_each(|(sample, level)| sample.raise(level));
        let levels = self.layers.iter_mut().zip(&stored.set_levels);
        levels.for_each(|(layer, level)| layer.sets.raise(*level));
        for (at, level) in stored.path_label_levels.iter().enumerate() {
            self.path_labels[at / 2].0[at % 2].raise(*level);
        }
        for (layer, levels) in self.layers.iter_mut().zip(&stored.row_levels) {
            layer.row_samples_mut().into_iter().zip(levels).for_each(|(sample, level)| sample.raise(*level));
        }
        Ok(Filling { counts: self, domains, classes })
    }
}

impl Filling<'_> {
    /// Adds a group of stored integers.
    ///
    /// # Errors
    /// If it belongs to no layer or statistic, or a cell lies outside.
    pub fn take(&mut self, group: &SumGroup) -> Result<(), AnalysisError> {
        let path = PATHS.iter().position(|name| *name == group.statistic);
        let fits = match path {
            Some(kind) => group.cells().all(|(row, _, sum)| take_key(&mut self.counts.paths[kind], row, sum)),
            None if group.layer < 0 => {
                let names: [&[u32]; 2] = [&self.domains, &self.classes];
                let samples = self.counts.path_labels.iter_mut().zip(PATHS);
                samples.into_iter().find_map(|(labels, kind)| labels.take(kind, group, names)) == Some(true)
            }
            None => {
                let layer = self.counts.layers.iter_mut().find(|own| own.layer as i64 == group.layer);
                layer.is_some_and(|layer| layer.take(group, [&self.domains, &self.classes]))
            }
        };
        let name = || format!("`{}` of layer {}", group.statistic, group.layer);
        if fits { Ok(()) } else { Err(wrong("stored sums", name(), "sums that counting wrote; count again")) }
    }

    /// Ends the filling.
    ///
    /// # Errors
    /// If groups are missing: every layer counts every token.
    pub fn finish(self) -> Result<(), AnalysisError> {
        let tokens = self.counts.tokens;
        match self.counts.layers.iter().find(|layer| layer.tokens() != tokens) {
            Some(layer) => {
                let found = format!("{} in layer {}", layer.tokens(), layer.layer);
                Err(wrong("the tokens of stored sums", found, &format!("{tokens}; count again")))
            }
            None => Ok(()),
        }
    }
}

fn wrong(what: &'static str, found: impl ToString, wanted: &str) -> AnalysisError {
    AnalysisError::OutOfRange { method: METHOD, what, found: found.to_string(), wanted: wanted.into() }
}

/// Places of names, in the order of the alphabet.
pub(super) fn sorted_places(names: &[String]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..names.len()).collect();
    places.sort_unstable_by_key(|place| &names[*place]);
    places
}

/// Place of each name in the order of the alphabet.
pub(super) fn ranks(names: &[String]) -> Vec<usize> {
    let mut ranks = vec![0; names.len()];
    sorted_places(names).into_iter().enumerate().for_each(|(rank, place)| ranks[place] = rank);
    ranks
}
