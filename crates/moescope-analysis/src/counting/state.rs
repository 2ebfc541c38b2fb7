//! Counts as integers that can be stored, read and added up elsewhere.
//!
//! What is read may have been cut, changed or made by hand. Shapes, levels and plans are looked at before there is
//! room for anything, and each cell when it is added: one that counting cannot have written ends the reading with
//! an error, and never with a panic or with tables that are wrong.
//!
//! Domains and classes are stored by their rank in the alphabet, so that files do not depend on the order in which
//! names were met.

use moescope_trace::SumGroup;
use serde::{Deserialize, Serialize};

use super::layer::{BY_LABELS, add_key_cell, keys, renamed, take_key};
use super::names::place_of;
use super::sampled_keys::SampledKeys;
use super::{CountingPlan, METHOD, RouteCounts, rows};
use crate::AnalysisError;

/// Version of the form in which counts are stored.
const SCHEMA: u32 = 2;

/// Classes that stored marks have room for: 2¹⁵ domains of as many classes fit into 31 bits.
const MOST_CLASSES: u32 = 1 << 15;

const PATHS: [&str; 2] = ["paths_of_sets", "paths_of_first_choices"];
const PATH_LABELS: [&str; 2] = ["labels_of_paths_of_sets", "labels_of_paths_of_first_choices"];
const SAMPLED: [&str; 2] = ["bigrams", "stack_distances"];

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
    /// Levels of the samples of labels of paths.
    pub path_label_levels: [u32; 2],
    /// Levels of the samples of bigrams and of documents.
    pub sampled_levels: [u32; 2],
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
            path_label_levels: self.path_labels.each_ref().map(|labels| labels.0.level()),
            sampled_levels: self.sampled.each_ref().map(SampledKeys::level),
            parts: self.parts.clone(),
            cut: self.cut,
        }
    }

    /// Everything counted, as integers that add up cell by cell as long as the levels of the manifests agree.
    pub fn groups(&self) -> Vec<SumGroup> {
        let ranks = [ranks(&self.domains), ranks(&self.classes)];
        let layers = self.layers.iter().flat_map(|layer| layer.groups([&ranks[0], &ranks[1]]));
        let paths = self.paths.iter().zip(PATHS).map(|(sample, name)| keys(name, -1, sample));
        let name = |mark: u32| {
            let [domain, class] = self.pairs[mark as usize / 2].map(|row| row as usize);
            (ranks[0][domain] as u32 * MOST_CLASSES + ranks[1][class] as u32) * 2 + mark % 2
        };
        let labels = self.path_labels.iter().zip(PATH_LABELS);
        let labels = labels.map(|(labels, statistic)| labels.group(statistic, name));
        let by_labels = self.layers.iter().flat_map(|layer| {
            BY_LABELS.iter().zip(&layer.by_labels).map(|(statistic, table)| {
                let cells = renamed(table, |mark| name(mark as u32) as usize);
                SumGroup::of(statistic, layer.layer as i64, cells)
            })
        });
        let [bigrams, documents] = &self.sampled;
        let sampled = self.layers.iter().flat_map(|layer| {
            let block = layer.layer as i64;
            [
                layer.bigrams.group(SAMPLED[0], block, bigrams),
                layer.distances.group(SAMPLED[1], block, documents),
            ]
        });
        layers.chain(by_labels).chain(paths).chain(labels).chain(sampled).collect()
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
        let lengths = (stored.documents.len(), stored.set_levels.len());
        if lengths != (stored.domains.len(), stored.layers.len()) {
            return Err(wrong("a list of stored counts", "of another length", "one entry for each name"));
        }
        let levels =
            [&stored.path_levels[..], &stored.path_label_levels, &stored.sampled_levels, &stored.set_levels];
        if let Some(level) = levels.into_iter().flatten().find(|level| **level >= 64) {
            return Err(wrong("a level of stored counts", level, "0 to 63; count again"));
        }
        self.admit(&stored.parts, &stored.layers, stored.tokens, stored.cut)?;
        let domains = self.rows_of_domains(&stored.domains);
        for (row, documents) in domains.iter().zip(&stored.documents) {
            let own = &mut self.documents[*row as usize];
            *own = own.saturating_add(*documents);
        }
        let classes = rows(&mut self.classes, &stored.classes);
        self.tokens += stored.tokens;
        self.largest_id = self.largest_id.max(stored.largest_id);
        self.paths.iter_mut().zip(stored.path_levels).for_each(|(sample, level)| sample.raise(level));
        let levels = self.layers.iter_mut().zip(&stored.set_levels);
        levels.for_each(|(layer, level)| layer.sets.raise(*level));
        for (labels, level) in self.path_labels.iter_mut().zip(stored.path_label_levels) {
            labels.0.raise(level);
        }
        for (which, level) in stored.sampled_levels.into_iter().enumerate() {
            let dropped = self.sampled[which].raise(level);
            self.forget(which, &dropped);
        }
        Ok(Filling { counts: self, domains, classes })
    }
}

impl RouteCounts {
    /// Adds rows of sampled bigrams (0) or documents (1); whether they fit.
    fn take_sampled(&mut self, which: usize, group: &SumGroup) -> bool {
        let keys: Vec<u64> = group.rows.iter().map(|row| row.cast_unsigned()).collect();
        self.admit_keys(which, &keys);
        let Some(layer) = self.layers.iter_mut().find(|own| own.layer as i64 == group.layer) else {
            return false;
        };
        let [bigrams, documents] = layer.sampled_rows();
        let rows = if which == 0 { bigrams } else { documents };
        let sample = &self.sampled[which];
        let add = |(row, column, sum): (i64, i64, i64)| {
            // What the sample does not keep any more is no mistake.
            sample.slot(row.cast_unsigned()).is_none_or(|slot| rows.add_cell(slot, column, sum))
        };
        group.cells().all(add)
    }
}

impl Filling<'_> {
    /// Adds a group of stored integers.
    ///
    /// # Errors
    /// If it belongs to no layer or statistic, or a cell lies outside.
    pub fn take(&mut self, group: &SumGroup) -> Result<(), AnalysisError> {
        let place = |names: &[&str]| names.iter().position(|name| *name == group.statistic);
        let names: [&[u32]; 2] = [&self.domains, &self.classes];
        let counts = &mut *self.counts;
        let fits = match (place(&PATHS), place(&PATH_LABELS), place(&BY_LABELS), place(&SAMPLED)) {
            (Some(kind), ..) => {
                group.cells().all(|(row, _, sum)| take_key(&mut counts.paths[kind], row, sum))
            }
            (_, Some(kind), ..) => group.cells().all(|(row, column, sum)| {
                let mark = own_mark(&mut counts.pairs, names, column);
                mark.is_some_and(|mark| {
                    add_key_cell(&mut counts.path_labels[kind].0, row, i64::from(mark), sum)
                })
            }),
            (.., Some(which), _) => {
                let layer = counts.layers.iter_mut().find(|own| own.layer as i64 == group.layer);
                layer.is_some_and(|layer| {
                    group.cells().all(|(row, column, sum)| {
                        let mark = own_mark(&mut counts.pairs, names, row);
                        let cell = mark.zip(usize::try_from(column).ok());
                        cell.is_some_and(|(mark, code)| {
                            layer.by_labels[which].add_cell(mark as usize, code, sum)
                        })
                    })
                })
            }
            (.., Some(which)) => counts.take_sampled(which, group),
            _ => {
                let layer = counts.layers.iter_mut().find(|own| own.layer as i64 == group.layer);
                layer.is_some_and(|layer| layer.take(group, names, counts.plan.token_rows))
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

/// The own mark of a stored one, whose domain and class are ranks; none where they have no name.
fn own_mark(pairs: &mut Vec<[u32; 2]>, names: [&[u32]; 2], stored: i64) -> Option<u32> {
    let mark = u32::try_from(stored).ok()?;
    let [domain, class] = [mark / 2 / MOST_CLASSES, mark / 2 % MOST_CLASSES];
    let pair = [*names[0].get(domain as usize)?, *names[1].get(class as usize)?];
    Some(2 * place_of(pairs, pair) + mark % 2)
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
