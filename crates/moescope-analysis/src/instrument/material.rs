use moescope_base::{HookPoint, Parameters, Request, Seed, Site, Subject, Tokens};
use moescope_trace::{RoutingTrace, TokenTable, record_routing};
use rand::seq::SliceRandom;

use super::Other;
use super::excerpt::{EXCERPT, Excerpt};
use crate::matrix::Features;
use crate::overhearing::{Ear, Overheard};
use crate::predictability::{InputClusters, Sorting, input_clusters};
use crate::predictions::{Foretelling, Predictions};
use crate::routing::Permutations;
use crate::statistics::{BootstrapMethod, Resampling};
use crate::{AnalysisError, Sample, check};

/// The residual stream of some tokens, with what is known about each. All lists have one entry for each token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResidualStream {
    /// After each block.
    pub layers: Vec<Features>,
    /// Token ids.
    pub ids: Vec<u32>,
    /// Domains, an index into the names.
    pub domains: Vec<u32>,
    /// Classes of tokens, an index into the names.
    pub classes: Vec<u32>,
    /// Documents.
    pub documents: Vec<u32>,
    /// Positions in the window, from 0.
    pub positions: Vec<u32>,
}

/// What instruments are run on: a subject, and text as batches with what is known about each token.
pub struct Material<'a> {
    /// The model.
    pub subject: &'a mut (dyn Subject + Send),
    /// Batches, one forward pass each.
    pub batches: Vec<(Tokens, TokenTable)>,
    /// Origin of everything that is drawn.
    pub seed: Seed,
    /// Draws behind each permutation null.
    pub permutations: usize,
    /// Replicates behind each bootstrap interval.
    pub replicates: usize,
    /// Texts of the tokens by id, for people; empty where they are not known.
    pub words: Vec<String>,
    /// Models that the subject is compared with; of checkpoints of one training, those before the subject.
    pub others: Vec<Other<'a>>,
    /// Whether the model's matrices may stand in memory a second time, for instruments that run it with other weights.
    pub room_for_weights: bool,
    /// Tokens of the excerpt of a longer text that is given to instruments which do not read all of it, see [`Reads`](super::Reads).
    pub excerpt_tokens: usize,
    /// What the model made of the text.
    pub(super) known: Known,
    /// Parts of the text that were read instead of all of it.
    pub(super) excerpts: Vec<Excerpt>,
}

/// What the model made of a text, once an instrument has asked for it, so that those that ask later need no pass.
///
/// It holds for one text and one set of weights: an excerpt has its own, and while the weights are in another order it is put aside.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Routes of all tokens.
    pub(super) routes: Option<RoutingTrace>,
    /// What is predicted after each.
    predictions: Option<Predictions>,
    /// Cluster of what the routers read at each.
    input_clusters: Option<InputClusters>,
    /// What will be asked for after the routes.
    expected: Vec<Overhears>,
}

/// What the pass that records the routes can find beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overhears {
    /// What is predicted after each token.
    Predictions,
    /// The cluster of what the routers read at each token, see [`input_clusters`](crate::predictability::input_clusters).
    InputClusters,
}

impl<'a> Material<'a> {
    /// Material with 99 permutations, 1,000 replicates, and excerpts of [`EXCERPT`] tokens.
    ///
    /// # Errors
    /// If there is no batch, or a batch and its table disagree in length.
    pub fn new(
        subject: &'a mut (dyn Subject + Send),
        batches: Vec<(Tokens, TokenTable)>,
        seed: Seed,
    ) -> Result<Material<'a>, AnalysisError> {
        check::at_least("analysis", "batches of text", batches.len(), 1)?;
        for (tokens, table) in &batches {
            check::same_length("analysis", "table of tokens", table.len(), tokens.len())?;
        }
        Ok(Material {
            subject,
            batches,
            seed,
            permutations: 99,
            replicates: 1000,
            words: Vec::new(),
            others: Vec::new(),
            room_for_weights: true,
            excerpt_tokens: EXCERPT,
            known: Known::default(),
            excerpts: Vec::new(),
        })
    }

    /// The routes of all tokens, recorded in one pass over the text when they are first asked for. What is [expected](Self::expect) beside them comes from
    /// the same pass.
    ///
    /// # Errors
    /// If the subject has no routed layer or cannot answer.
    pub fn routes(&mut self) -> Result<&RoutingTrace, AnalysisError> {
        let layers = self.subject.shape().routed_layers().len();
        check::at_least("routing", "routed layers", layers, 1)?;
        if self.known.routes.is_none() {
            let routes = self.overheard_routes()?;
            self.known.routes = Some(routes);
        }
        Ok(self.known.routes.as_ref().expect("recorded just now or before"))
    }

    /// Records the routes, and notes what else is expected and not known.
    fn overheard_routes(&mut self) -> Result<RoutingTrace, AnalysisError> {
        let known = &self.known;
        let expected = |what| known.expected.contains(&what);
        let foretells = expected(Overhears::Predictions) && known.predictions.is_none();
        let sorts = expected(Overhears::InputClusters) && known.input_clusters.is_none();
        // What cannot be found here is asked for again by whoever needs it, who then hears why.
        let samples = if foretells { self.samples()? } else { Vec::new() };
        let mut foretelling = foretells.then(|| Foretelling::new(self.subject, &samples));
        let mut sorting = if sorts { self.sorting().ok() } else { None };
        let ears = foretelling.iter_mut().map(|ear| ear as &mut dyn Ear);
        let ears = ears.chain(sorting.iter_mut().map(|ear| ear as &mut dyn Ear)).collect();
        let mut overheard = Overheard::new(self.subject, ears);
        let routes = record_routing(&mut overheard, self.batches.iter().cloned())?;
        let mut heard = overheard.heard(self.batches.len()).into_iter();
        if let Some(ear) = foretelling {
            self.known.predictions = heard.next().unwrap_or(false).then_some(ear.found);
        }
        if let Some(ear) = sorting {
            self.known.input_clusters = heard.next().unwrap_or(false).then_some(ear.found);
        }
        Ok(routes)
    }

    /// Clusters of what the routers read, learned from a sample of the text.
    fn sorting(&mut self) -> Result<Sorting, AnalysisError> {
        let mut tokens = TokenTable::default();
        for (place, (_, table)) in self.batches.iter().enumerate() {
            match place {
                0 => tokens = table.clone(),
                _ => tokens.extend(table.clone())?,
            }
        }
        let seed = self.halves();
        Sorting::new(self.subject, &self.batches, &tokens, seed)
    }

    /// Whether predictions and clusters of router inputs are known.
    #[cfg(test)]
    pub(crate) fn known_beside_routes(&self) -> [bool; 2] {
        [self.known.predictions.is_some(), self.known.input_clusters.is_some()]
    }

    /// Which documents teach what is said of others, see [`predictability`](crate::predictability::predictability).
    pub(crate) fn halves(&self) -> Seed {
        self.seed.child("halves")
    }

    /// The cluster of what the routers read at each token, found in one pass over the text when it is first asked for.
    ///
    /// # Errors
    /// As [`input_clusters`](crate::predictability::input_clusters).
    pub(crate) fn input_clusters(&mut self) -> Result<&InputClusters, AnalysisError> {
        if self.known.input_clusters.is_none() {
            let (trace, seed) = (self.routes()?.clone(), self.halves());
            let found = input_clusters(self.subject, &self.batches, &trace, seed)?;
            self.known.input_clusters = Some(found);
        }
        Ok(self.known.input_clusters.as_ref().expect("found just now or before"))
    }

    /// Says what will be asked for, so that it comes from the pass that records the routes.
    pub fn expect(&mut self, what: Overhears) {
        self.known.expected.push(what);
    }

    /// What is predicted after every token, found in one pass over the text when it is first asked for.
    ///
    /// # Errors
    /// If the subject cannot answer or leaves out a value.
    pub(crate) fn predictions(&mut self) -> Result<&Predictions, AnalysisError> {
        if self.known.predictions.is_none() {
            let samples = self.samples()?;
            self.known.predictions = Some(Predictions::of(self.subject, &samples)?);
        }
        Ok(self.known.predictions.as_ref().expect("found just now or before"))
    }

    /// The residual stream after every block, of at most `limit` tokens drawn at random.
    ///
    /// # Errors
    /// If the subject cannot answer or leaves out a value.
    pub fn residual_stream(&mut self, limit: usize) -> Result<ResidualStream, AnalysisError> {
        stream_of(self.subject, &self.batches, self.seed, limit)
    }

    /// The weights of the routed layers.
    ///
    /// # Errors
    /// If the subject does not show its weights.
    pub fn parameters(&mut self, method: &'static str) -> Result<&mut dyn Parameters, AnalysisError> {
        let advice = "open the model from its files";
        let what = "the subject does not show its weights";
        self.subject.parameters().ok_or(AnalysisError::NoWeights { method, what, advice })
    }

    /// The text of a token in quotes, in which blanks and line ends can be seen; its number where texts are not known.
    pub fn word(&self, id: u32) -> String {
        self.words.get(id as usize).map_or_else(|| format!("#{id}"), |word| format!("{word:?}"))
    }

    /// Names of the domains of the text.
    pub fn domain_names(&self) -> &[String] {
        &self.batches[0].1.domain_names
    }

    /// The batches as samples with their documents.
    ///
    /// # Errors
    /// As [`Sample::new`].
    pub fn samples(&self) -> Result<Vec<Sample>, AnalysisError> {
        let sample =
            |(tokens, table): &(Tokens, TokenTable)| Sample::new(tokens.clone(), table.documents.clone());
        self.batches.iter().map(sample).collect()
    }

    /// At most so many sequences, drawn at random so that as many documents as possible are among them, in batches no larger than the
    /// material's own.
    ///
    /// # Errors
    /// As [`Sample::new`].
    pub fn some_samples(&self, label: &str, sequences: usize) -> Result<Vec<Sample>, AnalysisError> {
        crate::sequences::drawn(self, label, sequences)
    }

    /// Draws of a permutation null, from a stream of their own.
    pub fn permutations(&self, label: &str) -> Permutations {
        Permutations::new(self.permutations, self.seed.child(label))
    }

    /// The same, with draws enough for so many tests, see [`Permutations::enough_for`].
    pub fn permutations_for(&self, label: &str, tests: usize) -> Permutations {
        self.permutations(label).enough_for(tests)
    }

    /// A 95 % percentile bootstrap, from a stream of its own.
    pub fn resampling(&self, label: &str) -> Resampling {
        Resampling {
            replicates: self.replicates,
            level: 0.95,
            method: BootstrapMethod::Percentile,
            seed: self.seed.child(label),
        }
    }
}

/// The residual stream of a subject after every block, of at most `limit` tokens of these batches; the seed decides which.
///
/// # Errors
/// If the subject cannot answer or leaves out a value.
pub fn stream_of(
    subject: &mut dyn Subject,
    batches: &[(Tokens, TokenTable)],
    seed: Seed,
    limit: usize,
) -> Result<ResidualStream, AnalysisError> {
    let layers = subject.shape().layers();
    let points: Vec<HookPoint> = (0..layers).map(|layer| HookPoint::block(Site::ResidPost, layer)).collect();
    let mut chosen: Vec<usize> = (0..batches.iter().map(|(tokens, _)| tokens.len()).sum()).collect();
    chosen.shuffle(&mut seed.child("tokens of the residual stream").rng());
    chosen.truncate(limit);
    chosen.sort_unstable();
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); layers];
    let mut found = ResidualStream::default();
    let mut before = 0;
    for (tokens, table) in batches {
        let here = before..before + tokens.len();
        let seen = subject.run(&Request::recording(tokens, &points))?;
        let rows: Vec<usize> =
            chosen.iter().filter(|token| here.contains(token)).map(|token| token - before).collect();
        for (values, point) in values.iter_mut().zip(&points) {
            let value = seen.values.get(point).ok_or(AnalysisError::NotRecorded { point: *point })?;
            let features = Features::of_value(value)?;
            rows.iter().for_each(|row| values.extend_from_slice(features.row(*row)));
        }
        found.ids.extend(rows.iter().map(|row| table.ids[*row]));
        found.domains.extend(rows.iter().map(|row| u32::from(table.domains[*row])));
        found.classes.extend(rows.iter().map(|row| u32::from(table.classes[*row])));
        found.documents.extend(rows.iter().map(|row| table.documents[*row]));
        found.positions.extend(rows.iter().map(|row| table.positions[*row]));
        before = here.end;
    }
    let width = subject.shape().d_model;
    found.layers = values.iter().map(|values| Features::new(width, values)).collect::<Result<_, _>>()?;
    Ok(found)
}
