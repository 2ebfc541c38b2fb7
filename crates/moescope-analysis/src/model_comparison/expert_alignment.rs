//! The instrument `expert-alignment`.

use moescope_base::{Column, Figure, FigureKind, Subject, SubjectShape, Table};

use super::alignment::{ExpertAlignment, ExpertKernels, Halves, METHOD, expert_alignment};
use super::by_measure::{self, PairedLikeness, answers, chosen, paired};
use super::{of_other, wanted};
use crate::expert_representation::answers::{Asked, layers, routed};
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::matrix::Features;
use crate::routing::Permutations;
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;
use crate::{AnalysisError, check};

/// Tokens that experts answer, at most.
const TOKENS: usize = 192;
/// Layers that are compared, at most, evenly spaced, the last among them.
const LAYERS: usize = 4;
/// Shuffles behind each null, at most.
const SHUFFLES: usize = 39;

/// The instrument `expert-alignment`.
///
/// All experts of a layer are made to answer the same tokens, in both models, and are compared as they are named and once they are matched; see
/// [`ExpertAlignment`] for unit, nulls and limits.
pub struct ExpertAlignments;

/// A twin with other names is found once experts are matched.
const EQUAL_ONCE_MATCHED: Reading = Reading {
    says: "experts of block 0 answer as those of another model once they are matched",
    table: "expert_alignment",
    rows: &[("layer", "0")],
    value: "matched",
    rule: Rule::MoreThan(0.95),
};
/// Names that mean nothing must not look like agreement.
const EQUAL_AS_NAMED: Reading = Reading {
    says: "experts of block 0 answer as those of another model as they are named",
    table: "expert_alignment",
    rows: &[("layer", "0")],
    value: "named",
    rule: Rule::MoreThan(0.95),
};

/// A renamed twin is the same once matched and not before, an earlier self is it as it stands, and strangers never are.
const PROMISES: &[Promise] = &[
    Promise::finds(Property::PermutedTwin, EQUAL_ONCE_MATCHED),
    Promise::is_silent(Property::PermutedTwin, EQUAL_AS_NAMED),
    Promise::finds(Property::EarlierSelf, EQUAL_AS_NAMED),
    Promise::is_silent(Property::Strangers, EQUAL_ONCE_MATCHED),
    Promise::is_silent(Property::Strangers, EQUAL_AS_NAMED),
];

impl Instrument for ExpertAlignments {
    fn about(&self) -> About {
        About {
            name: "expert-alignment",
            group: Group::Representation,
            question: "Do the experts of two models answer alike, as they are named and once they are matched (`--against`)?",
            null: "the tokens of the other model exchanged and its experts matched anew; as named, all pairs of experts",
            does_not_show: "that matched experts are used alike: all answer all tokens; nor that likeness was learned, where experts read alike",
            source: "units matched by what they answer, Li et al. 2016 (arXiv 1511.07543), here experts by unbiased linear CKA, Kornblith et al. 2019; other measures as in `similarity`",
            passes: "one for each set of as many experts as a token chooses, of each of at most 4 layers, of at most 64 sequences; as many of each other model, and at most 4 more for each layer and 8 of each other model",
            routed: true,
            gives: super::gives::EXPERT_ALIGNMENT,
            promises: PROMISES,
        }
    }

    fn against(&self) -> bool {
        true
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        wanted(material, METHOD)?;
        let asked = Asked::drawn(material, METHOD, TOKENS)?;
        let own = layers_of(material.subject, &asked)?;
        check::at_least(METHOD, "routed layers", own.len(), 1)?;
        let permutations = material.permutations(METHOD);
        let permutations = Permutations { count: permutations.count.min(SHUFFLES), ..permutations };
        let (mut found, mut by_measure) = (Vec::new(), Vec::new());
        for number in 0..material.others.len() {
            let draws = permutations.index(number);
            let rows = of_other(material, number, |other| compare(&own, other, &asked, draws))?;
            let name = &material.others[number].name;
            for (alignment, measures) in rows {
                found.push((name.clone(), alignment));
                by_measure.extend(measures.into_iter().map(|row| (name.clone(), row)));
            }
        }
        let figure = Figure {
            id: "expert_alignment".into(),
            title: finding(&found),
            caption: "Mean CKA of matched experts on documents that did not decide the matching, with 95 % intervals; beside it the tokens of the other model \
                      exchanged and its experts matched anew."
                .into(),
            table: "expert_alignment".into(),
            kind: FigureKind::Bars { x: "layer".into(), y: "matched".into(), series: Some("other".into()) },
        };
        Ok(Finding { tables: vec![table(&found)?, by_measure::table(&by_measure)?], figures: vec![figure] })
    }
}

/// One layer of the first model: what all its experts answer, and some of them at full length.
struct OwnLayer {
    layer: usize,
    kernels: ExpertKernels,
    chosen: Vec<usize>,
    answers: Vec<Features>,
}

/// The layers of the first model.
fn layers_of(subject: &mut (dyn Subject + Send), asked: &Asked) -> Result<Vec<OwnLayer>, AnalysisError> {
    let mut found = Vec::new();
    for layer in layers(subject.shape(), LAYERS) {
        let chosen = chosen(routed(subject.shape(), layer).0);
        let kernels = kernels(subject, asked, layer)?;
        let answers = answers(subject, asked, layer, &chosen)?;
        found.push(OwnLayer { layer, kernels, chosen, answers });
    }
    Ok(found)
}

/// Compares every layer with that of another model: as a whole, and some experts by all measures.
fn compare(
    own: &[OwnLayer],
    other: &mut (dyn Subject + Send),
    asked: &Asked,
    permutations: Permutations,
) -> Result<Vec<(ExpertAlignment, Vec<PairedLikeness>)>, AnalysisError> {
    let theirs = layers(other.shape(), LAYERS);
    let told = format!("{} in one model and {} in the other", own.len(), theirs.len());
    check::in_range(
        METHOD,
        "number of routed layers",
        told,
        own.len() == theirs.len(),
        "one number in both",
    )?;
    let judging = Halves::new(&asked.documents)?.judging;
    let documents: Vec<u32> = judging.iter().map(|token| asked.documents[*token]).collect();
    let mut found = Vec::new();
    for (at, (own, layer)) in own.iter().zip(theirs).enumerate() {
        let second = kernels(other, asked, layer)?;
        let draws = permutations.index(at);
        let row = expert_alignment((own.layer, &own.kernels), (layer, &second), &asked.documents, draws)?;
        let partners: Vec<usize> = own.chosen.iter().map(|expert| row.partners[*expert]).collect();
        let mut measures = Vec::new();
        for (matched, experts) in [(false, &own.chosen), (true, &partners)] {
            let theirs = answers(other, asked, layer, experts)?;
            let text = (judging.as_slice(), documents.as_slice());
            measures.extend(paired((own.layer, matched), &own.answers, &theirs, text, draws)?);
        }
        found.push((row, measures));
    }
    Ok(found)
}

/// What all experts of a layer answer.
fn kernels(
    subject: &mut (dyn Subject + Send),
    asked: &Asked,
    layer: usize,
) -> Result<ExpertKernels, AnalysisError> {
    let (experts, per_token) = routed(subject.shape(), layer);
    let all: Vec<usize> = (0..experts).collect();
    let mut kernels = ExpertKernels::default();
    for group in all.chunks(per_token.max(1)) {
        asked.answers(subject, layer, group)?.iter().for_each(|answers| kernels.push(answers));
    }
    Ok(kernels)
}

/// Bytes that the instrument keeps, for plans of memory: the kernels of all experts of some layers, and of one layer in other orders of tokens, and
/// the answers of some.
pub fn kept(shape: &SubjectShape) -> u64 {
    let own_layers = layers(shape, LAYERS).len();
    let experts = layers(shape, LAYERS).into_iter().map(|layer| routed(shape, layer).0);
    let (all, most) = experts.fold((0, 0), |(all, most), experts| (all + experts, most.max(experts)));
    let answers = 8 * TOKENS * shape.d_model * (own_layers + 2) * by_measure::EXPERTS;
    (8 * TOKENS * TOKENS * (2 * all + 4 * most) + answers) as u64
}

/// One row for each other model and layer.
fn table(found: &[(String, ExpertAlignment)]) -> Result<Table, AnalysisError> {
    let of =
        |pick: fn(&ExpertAlignment) -> Bootstrap| found.iter().map(|row| pick(&row.1)).collect::<Vec<_>>();
    let real = |pick: fn(&ExpertAlignment) -> f64| found.iter().map(|row| pick(&row.1)).collect::<Vec<f64>>();
    let integer = |pick: fn(&ExpertAlignment) -> usize| found.iter().map(|row| pick(&row.1) as i64).collect();
    let mut columns = vec![
        Column::key("other", "model that is compared", found.iter().map(|row| row.0.clone()).collect()),
        Column::integer_key("layer", "", "block", integer(|row| row.layer)),
        Column::integer_key("other_layer", "", "block of the other model", integer(|row| row.other)),
        Column::count("experts", "experts", "of each layer", integer(|row| row.experts)),
    ];
    let meaning = "mean unbiased linear CKA of answers, experts matched";
    columns.extend(bootstrap_columns("matched", "", meaning, &of(|row| row.matched)));
    let null = "tokens of the other model exchanged, its experts matched anew";
    columns.push(Column::null("matched", "", null, real(|row| row.shuffled)));
    columns.push(Column::p_value(
        "matched",
        "at least as large with tokens exchanged",
        real(|row| row.p_value),
    ));
    let meaning = "mean unbiased linear CKA of answers, experts as they are named";
    columns.extend(bootstrap_columns("named", "", meaning, &of(|row| row.named)));
    columns.push(Column::null("named", "", "mean over all pairs of experts", real(|row| row.any)));
    columns.push(Column::count(
        "kept",
        "experts",
        "that keep their name when matched",
        integer(ExpertAlignment::kept),
    ));
    let method = "Routed layers in order, the first with the first. All experts answer the same tokens, whatever the routers chose. Experts are matched one to one on every \
                  second document; likeness is that on the others, with intervals by leaving out groups of documents. Does not show that matched experts are used alike.";
    Ok(Table::new("expert_alignment", "Whether the experts of two models answer alike", method, columns)?)
}

/// Mean over layers of one model, or the range over the means of several.
fn finding(found: &[(String, ExpertAlignment)]) -> String {
    let mut names: Vec<&str> = found.iter().map(|row| row.0.as_str()).collect();
    names.dedup();
    let mean = |name: &str, of: fn(&ExpertAlignment) -> f64| {
        let rows: Vec<f64> = found.iter().filter(|row| row.0 == name).map(|row| of(&row.1)).collect();
        crate::statistics::mean(&rows)
    };
    let range = |of: fn(&ExpertAlignment) -> f64| {
        let all: Vec<f64> = names.iter().map(|name| mean(name, of)).collect();
        let (low, high) =
            all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
        if all.len() == 1 { format!("{low:.2}") } else { format!("{low:.2} to {high:.2}") }
    };
    let who = if names.len() == 1 {
        "another model".into()
    } else {
        format!("each of {} other models", names.len())
    };
    format!(
        "Experts answer as those of {who} with a CKA of {} once matched, {} as they are named, {} between any two",
        range(|row| row.matched.estimate),
        range(|row| row.named.estimate),
        range(|row| row.any)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wording::found;

    #[test]
    fn the_title_tells_one_model_or_the_range_over_several() {
        let row = |name: &str, matched: f64| {
            let alignment = ExpertAlignment {
                layer: 0,
                other: 0,
                experts: 4,
                named: found(0.25, 0.1, 0.3),
                any: 0.2,
                matched: found(matched, 0.0, 1.0),
                shuffled: 0.0,
                p_value: 0.05,
                partners: vec![0, 2, 3, 1],
            };
            (name.to_owned(), alignment)
        };
        let one = finding(&[row("a", 0.5), row("a", 1.0)]);
        assert!(
            one.contains("another model with a CKA of 0.75 once matched, 0.25 as they are named, 0.20"),
            "{one}"
        );
        let two = finding(&[row("a", 0.5), row("b", 1.0)]);
        assert!(two.contains("each of 2 other models with a CKA of 0.50 to 1.00 once matched"), "{two}");
        assert_eq!(table(&[row("a", 0.5), row("b", 1.0)]).unwrap().rows(), 2);
    }
}
