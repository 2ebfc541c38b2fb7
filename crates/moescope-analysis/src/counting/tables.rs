//! Tables of what was counted. Those of which single traces have the same are made by the same code and have the same name.
//!
//! Counts grow with experts and labels and not with the text, so a corpus of any length can be counted, but
//! what needs single tokens again is gone: there is nothing left to shuffle. Nulls here are therefore
//! formulas, exact for independent tokens or to first order, and intervals come from sums that were kept by
//! document. Where a single trace is at hand, its tables with nulls by shuffles are the better evidence.

use moescope_base::{Column, Table};

use super::layer::LABELS;
use super::state::sorted_places;
use super::{Contingency, LabelInformation, LayerCounts, RatioSums, RouteCounts};
use crate::AnalysisError;
use crate::routing::{
    CoactivationReport, LayerCoactivation, LayerNearTies, LayerSharpness, LoadReport, NEAR_TIE,
    NearTieReport, NullComparison, SharpnessReport, load_of_counts, strongest_partner,
};
use crate::specialisation::{DomainLoadReport, LayerDomainLoad};

impl RouteCounts {
    /// All tables of what was counted.
    ///
    /// In this order: loads by layer, over layers and by expert; sharpness and near ties; strongest partners
    /// and pairs; what a token hands on, if any window has two tokens; committees; what the choice tells; the
    /// load of domains; what the text foretells; paths and what they name; with several routed layers, what one
    /// tells of the next; and what caches find.
    ///
    /// # Errors
    /// If there is no token or no routed layer.
    pub fn tables(&self) -> Result<Vec<Table>, AnalysisError> {
        crate::check::at_least("counting of routes", "tokens", self.tokens() as usize, 1)?;
        crate::check::at_least("counting of routes", "routed layers", self.layers().len(), 1)?;
        let load = |l: &LayerCounts| load_of_counts(l.layer, &l.pairs.slots());
        let load = LoadReport { layers: self.layers().iter().map(load).collect() };
        let of = |l: &LayerCounts| LayerSharpness::of_sums(l.layer, l.experts, &l.decisions);
        let sharpness =
            SharpnessReport { near_tie: NEAR_TIE, layers: self.layers().iter().map(of).collect() };
        let of = |l: &LayerCounts| LayerNearTies::of_counts(l.layer, l.decisions.relative);
        let near_ties = NearTieReport { layers: self.layers().iter().map(of).collect() };
        let coactivation = CoactivationReport { layers: self.layers().iter().map(coactivation).collect() };
        let mut tables = vec![load.table()?, load.over_layers()?, self.load_by_expert()?];
        tables.extend([sharpness.table()?, near_ties.table()?]);
        tables.extend([strongest_partners(&coactivation)?, coactivation.by_pair()?]);
        if self.layers().iter().any(|layer| layer.same_first.denominator > 0) {
            tables.push(self.handover_table()?);
        }
        tables.extend(self.committee_tables()?);
        tables.extend([self.specialisation_table()?, self.domain_load().table()?]);
        tables.extend(self.foretold_table()?);
        tables.push(self.path_table()?);
        tables.extend(self.naming_table()?);
        if self.layers().len() > 1 {
            tables.push(self.next_layer_table()?);
        }
        tables.push(self.cache_table()?);
        Ok(tables)
    }

    /// Documents counted.
    pub fn documents(&self) -> u64 {
        self.documents.iter().sum()
    }

    /// One row for each layer and expert, range 0 to 1, rows of a layer adding up to 1. The null is an even
    /// load, one over the number of experts of the layer. An uneven load is no fault by itself: text is
    /// uneven too.
    fn load_by_expert(&self) -> Result<Table, AnalysisError> {
        let each = |l: &'_ LayerCounts| l.load.iter().copied().enumerate().collect::<Vec<_>>();
        let rows: Vec<(&LayerCounts, usize, RatioSums)> = self
            .layers()
            .iter()
            .flat_map(|l| each(l).into_iter().map(move |(e, sums)| (l, e, sums)))
            .collect();
        let (low, high) = rows.iter().map(|(.., sums)| sums.interval(self.documents())).unzip();
        let unit = "share of routed slots";
        let mut columns = vec![
            Column::integer_key("layer", "", "block", rows.iter().map(|(l, ..)| l.layer as i64).collect()),
            Column::integer_key("expert", "", "expert", rows.iter().map(|(_, e, _)| *e as i64).collect()),
            Column::estimate(
                "load",
                unit,
                "slots that went to the expert",
                rows.iter().map(|(.., sums)| sums.ratio()).collect(),
            ),
        ];
        columns.extend(Column::interval("load", unit, "95 %, over documents", low, high));
        columns.push(Column::null(
            "load",
            unit,
            "even load",
            rows.iter().map(|(l, ..)| 1.0 / l.experts as f64).collect(),
        ));
        columns.push(Column::observations("load", "documents", vec![self.documents() as i64; rows.len()]));
        let method = "Routed slots counted by expert, each layer by itself. The interval takes documents for \
                      independent and the ratio for normal: with fewer than about 30 documents it is too narrow.";
        let title = "Share of routed slots of each expert";
        Ok(Table::new("counted_load_by_expert", title, method, columns)?)
    }

    /// Two shares, both from 0 to 1. With several experts for each token the overlap is the steadier one: a
    /// first choice changes when two weights that are almost equal change places, and the set does not.
    fn handover_table(&self) -> Result<Table, AnalysisError> {
        let layers = self.layers();
        let documents = vec![self.documents() as i64; layers.len()];
        let mut columns =
            vec![Column::integer_key("layer", "", "block", layers.iter().map(|l| l.layer as i64).collect())];
        let mut ratio = |name: &str, unit: &str, meaning: &str, sums: Vec<RatioSums>, null: Vec<f64>| {
            let (low, high) = sums.iter().map(|sums| sums.interval(self.documents())).unzip();
            columns.push(Column::estimate(name, unit, meaning, sums.iter().map(RatioSums::ratio).collect()));
            columns.extend(Column::interval(name, unit, "95 %, over documents", low, high));
            columns.push(Column::null(name, unit, "independent tokens with these loads", null));
        };
        ratio(
            "overlap",
            "share of experts",
            "share of a token's experts that the next token keeps",
            layers.iter().map(|l| l.overlap).collect(),
            layers.iter().map(chance_overlap).collect(),
        );
        ratio(
            "first_choice",
            "share of tokens",
            "next token has the same first choice",
            layers.iter().map(|l| l.same_first).collect(),
            layers.iter().map(chance_first).collect(),
        );
        columns.push(Column::observations("overlap", "documents", documents));
        let pairs = layers.iter().map(|l| l.same_first.denominator as i64).collect();
        columns.push(Column::count("pairs", "pairs of neighbours", "counted", pairs));
        let method = "Neighbouring tokens of the same window. The null is that of tokens drawn independently with the \
                      loads found; text itself is not such. Does not show locality beyond that of the text.";
        Ok(Table::new("counted_handover", "How much of its route a token hands on", method, columns)?)
    }

    /// Information counted from a finite text is never negative and too large even where there is nothing to
    /// find, by about `(labels - 1)(experts - 1) / (2 slots ln 2)` bits (Miller 1955). An example: five
    /// domains, 64 experts and 100,000 slots give 4 · 63 / 138,629, about 0.0018 bits. The excess is what is
    /// left after this, and may be below 0.
    ///
    /// Labels beyond the planned number of rows share rows. Sharing only loses information, so the value is
    /// then a lower bound, and says so.
    fn specialisation_table(&self) -> Result<Table, AnalysisError> {
        let rows = self.told_of_labels();
        let real =
            |f: fn(&LabelInformation) -> f64| rows.iter().map(|(.., told)| f(told)).collect::<Vec<_>>();
        let bits = "bits per routed slot";
        let columns = vec![
            Column::key(
                "label",
                "what the choice is asked about",
                rows.iter().map(|(label, ..)| (*label).into()).collect(),
            ),
            Column::integer_key("layer", "", "block", rows.iter().map(|(_, l, ..)| l.layer as i64).collect()),
            Column::estimate(
                "information",
                bits,
                "plug-in mutual information between expert and label",
                real(|told| told.bits),
            ),
            Column::null(
                "information",
                bits,
                "(labels - 1)(experts - 1) / (2 slots ln 2): mean with nothing to find, slots independent; given the token, summed over tokens",
                real(|told| told.bias),
            ),
            Column::observations(
                "information",
                "routed slots",
                rows.iter().map(|(.., told)| told.slots as i64).collect(),
            ),
            Column::estimate(
                "excess",
                bits,
                "information minus its null",
                real(|told| told.bits - told.bias),
            ),
            Column::estimate(
                "share",
                "share of label entropy",
                "excess over the entropy of the label",
                real(|told| (told.bits - told.bias) / told.label_entropy),
            ),
            Column::estimate("label_entropy", "bits", "what there was to know", real(|t| t.label_entropy)),
            Column::text(
                "labels",
                "what is counted: where several labels share a row, the information is a lower bound",
                rows.iter().map(|(_, _, counted, _)| counted.clone()).collect(),
            ),
        ];
        let method = "Mutual information by counting. The null is a formula to first order: it takes slots for \
                      independent, which those of a token and of a document are not, so a small excess shows nothing.";
        let title = "What the expert choice tells about the token";
        Ok(Table::new("counted_specialisation", title, method, columns)?)
    }

    /// Label, layer, what is counted, and what the choice tells: of labels with two values or more.
    fn told_of_labels(&self) -> Vec<(&'static str, &LayerCounts, String, LabelInformation)> {
        let hashed = self.largest_id as usize >= self.plan.token_rows;
        let mut rows = Vec::new();
        for (place, label) in LABELS.into_iter().enumerate() {
            let counted = if place >= 3 && hashed { "lower bound" } else { "all labels" };
            rows.extend(
                self.layers()
                    .iter()
                    .map(|l| (label, l, counted.to_owned(), l.by_label(place, &self.pairs).information())),
            );
        }
        rows.retain(|(.., told)| told.labels > 1);
        if self.domains.len() > 1 {
            for l in self.layers() {
                let Some(told) = l.tokens.told() else { continue };
                let share = told.information.slots as f64 / (l.tokens() * l.per_token as u64) as f64;
                let limit = told.limit;
                let counted =
                    format!("frequent tokens of the ids below {limit}, {:.1} % of slots", 100.0 * share);
                rows.push(("domain given token", l, counted, told.information));
            }
        }
        rows
    }

    /// Share of each domain's tokens that chose each expert, domains in order of the alphabet.
    pub fn domain_load(&self) -> DomainLoadReport {
        let order = sorted_places(&self.domains);
        let tokens = self.domain_tokens(&order);
        let of = |l: &LayerCounts| {
            let (by_domain, mut counts) = (l.by_label(0, &self.pairs), Contingency::new(l.experts));
            for (row, place) in order.iter().enumerate() {
                (0..l.experts).for_each(|expert| {
                    counts.add_cell(row, expert, i64::from(by_domain.count(*place, expert)));
                });
            }
            LayerDomainLoad::of_counts(l.layer, &counts, &tokens)
        };
        DomainLoadReport {
            layers: self.layers().iter().map(of).collect(),
            domains: self.domain_names(),
            documents: order.iter().map(|place| self.documents[*place] as u32).collect(),
            tokens,
        }
    }

    /// Tokens of the domains at these places.
    fn domain_tokens(&self, order: &[usize]) -> Vec<u32> {
        let Some(l) = self.layers().first() else { return vec![0; order.len()] };
        let by_domain = l.by_label(0, &self.pairs);
        let slots = |place: usize| (0..l.experts).map(|e| u64::from(by_domain.count(place, e))).sum::<u64>();
        order.iter().map(|place| (slots(*place) / l.per_token as u64) as u32).collect()
    }

    /// One row for each pair of neighbouring routed layers, bits for each token. The share has the entropy of
    /// the next layer's first choice as its whole: 0 where the layers choose independently, 1 where one follows from the
    /// other.
    fn next_layer_table(&self) -> Result<Table, AnalysisError> {
        let rows: Vec<(usize, usize, LabelInformation)> = self
            .layers()
            .windows(2)
            .map(|l| (l[0].layer, l[1].layer, l[0].next_layer.information()))
            .collect();
        let real =
            |f: fn(&LabelInformation) -> f64| rows.iter().map(|(.., told)| f(told)).collect::<Vec<_>>();
        let columns = vec![
            Column::integer_key("layer", "", "block", rows.iter().map(|row| row.0 as i64).collect()),
            Column::integer_key(
                "next_layer",
                "",
                "next routed block",
                rows.iter().map(|row| row.1 as i64).collect(),
            ),
            Column::estimate(
                "information",
                "bits",
                "plug-in information between the first choices of the two layers",
                real(|told| told.bits),
            ),
            Column::null("information", "bits", "to first order, tokens independent", real(|told| told.bias)),
            Column::observations(
                "information",
                "tokens",
                rows.iter().map(|row| row.2.slots as i64).collect(),
            ),
            Column::estimate(
                "share",
                "share of entropy",
                "information minus its null, over the entropy of the next layer's first choice",
                real(|told| (told.bits - told.bias) / told.code_entropy),
            ),
        ];
        let method = "First choices of the same token in neighbouring routed layers. Dependence may come from the token \
                      alone.";
        let title = "What a layer's first choice tells about the next";
        Ok(Table::new("counted_next_layer", title, method, columns)?)
    }
}

/// Chance that two independent tokens have the same first choice, with the first choices found.
///
/// Two experts that are first for half of the tokens each give 0.5; an even load over `n` experts gives
/// `1/n`.
fn chance_first(layer: &LayerCounts) -> f64 {
    let tokens = layer.tokens() as f64;
    layer.first_choices.cells().map(|(.., count)| (f64::from(count) / tokens).powi(2)).sum()
}

/// Overlap of two independent tokens with the loads found: `Σ p² / k`, where `p` is the share of tokens that chose an expert.
///
/// Eight experts, equally used, two for each token: `p` is 1/4 and the overlap 8 · (1/16) / 2 = 0.25, as it
/// should be where the next token has each expert with a probability of 1/4.
fn chance_overlap(layer: &LayerCounts) -> f64 {
    let slots = layer.pairs.slots();
    let all = slots.iter().sum::<u64>() as f64;
    slots.iter().map(|c| (*c as f64 / all).powi(2)).sum::<f64>() * layer.per_token as f64
}

/// Pairs of a layer, without a null by shuffles.
fn coactivation(layer: &LayerCounts) -> LayerCoactivation {
    let pairs = layer.pairs.counts();
    let observed = strongest_partner(&pairs, layer.experts);
    LayerCoactivation {
        layer: layer.layer,
        experts: layer.experts,
        per_token: layer.per_token,
        tokens: layer.tokens() as usize,
        strongest_partner: NullComparison::without_draws(observed),
        pairs,
    }
}

fn strongest_partners(report: &CoactivationReport) -> Result<Table, AnalysisError> {
    let layers = &report.layers;
    let by_load = |l: &LayerCoactivation| {
        let strongest = |expert: usize| {
            let partners = (0..l.experts).filter(|partner| *partner != expert);
            partners.map(|partner| l.load_chance(expert, partner)).fold(0.0, f64::max)
        };
        let used: Vec<f64> = (0..l.experts).filter(|e| l.share(*e) > 0.0).map(strongest).collect();
        used.iter().sum::<f64>() / used.len() as f64
    };
    let count = |f: fn(&LayerCoactivation) -> usize| layers.iter().map(|l| f(l) as i64).collect();
    let columns = vec![
        Column::integer_key("layer", "", "block", count(|l| l.layer)),
        Column::estimate(
            "strongest_partner",
            "probability",
            "mean over experts of P(strongest partner | expert)",
            layers.iter().map(|l| l.strongest_partner.observed).collect(),
        ),
        Column::null(
            "strongest_partner",
            "probability",
            "slots filled in proportion to load, tokens without number",
            layers.iter().map(by_load).collect(),
        ),
        Column::observations("strongest_partner", "tokens", count(|l| l.tokens)),
    ];
    let method = "All pairs within each token's set. The null has no sampling error, so few tokens exceed it by \
                  chance; `routing_coactivation` of a single trace has a null by shuffles.";
    Ok(Table::new("counted_coactivation", "Whether experts go together", method, columns)?)
}
