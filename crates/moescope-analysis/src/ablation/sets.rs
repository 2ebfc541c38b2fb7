//! What the model loses without the most used and the least used experts of a layer together.

use moescope_base::{Column, Edit, Figure, FigureKind, Seed, Table};

use super::components::{Component, by_use};
use super::effects::{How, Others, edits, means, recorded};
use super::{METHOD, SET, SET_LAYERS};
use crate::depth::spread_over;
use crate::document_loss::{Judged, minus};
use crate::instrument::Material;
use crate::statistics::{Bootstrap, Resampling, holm, student};
use crate::tabulate::bootstrap_columns;
use crate::wording::counted;
use crate::{AnalysisError, Sample};

/// Ways in which sets are taken out.
const WAYS: [How; 3] = [How::Zero, How::Mean, How::Resample];

/// What the model loses without several experts of one layer at once.
///
/// - **Unit:** rise of the next-token loss, nats per token; intervals resample documents.
/// - **Null:** 0, of experts that write nothing.
/// - **Does not show:** what the model would lose if their tokens went to other experts: tokens that chose them keep their choice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SetEffect {
    pub(super) layer: usize,
    /// Whether they are those with most tokens; if not, those with fewest.
    pub(super) most_used: bool,
    /// In ascending order.
    pub(super) experts: Vec<usize>,
    /// Share of the layer's slots that they have, from 0 to 1.
    pub(super) load: f64,
    pub(super) how: How,
    pub(super) loss: Bootstrap,
    /// Of no rise or fall, two-sided, by Student's t over documents.
    pub(super) p_value: f64,
}

/// Takes out a quarter of the experts of each of some layers, sixteen at most, by use; nothing of a dense model, nor where a layer uses one expert.
///
/// # Errors
/// If the subject cannot answer, or there are too few documents.
pub(super) fn effects(
    material: &mut Material<'_>,
    samples: &[Sample],
    resampling: Resampling,
    seed: Seed,
) -> Result<Vec<SetEffect>, AnalysisError> {
    let routed = material.subject.shape().routed_layers();
    if routed.is_empty() {
        return Ok(Vec::new());
    }
    let looked_at: Vec<usize> = spread_over(routed.len(), SET_LAYERS).map(|at| routed[at]).collect();
    let sets = sets(material, &looked_at)?;
    let judged = Judged::new(METHOD, samples)?;
    let free = judged.losses(material.subject, &[])?;
    let documents: Vec<usize> = (0..free.len()).collect();
    let mut found = Vec::new();
    for set in sets {
        for (how, edits) in WAYS.into_iter().zip(edits_of(material, samples, &set, seed)?) {
            let rises = minus(&judged.losses_by_sample(material.subject, &edits)?, &free);
            let loss = judged.mean(&rises, &documents, resampling)?;
            let p_value =
                student::two_sided(loss.estimate / loss.standard_error, documents.len() as f64 - 1.0);
            found.push(SetEffect { how, loss, p_value, ..set.clone() });
        }
    }
    Ok(found)
}

/// The sets, without an effect yet.
fn sets(material: &mut Material<'_>, layers: &[usize]) -> Result<Vec<SetEffect>, AnalysisError> {
    let mut found = Vec::new();
    for layer in material.routes()?.layers().iter().filter(|layer| layers.contains(&layer.layer)) {
        let order = by_use(layer);
        let size = (layer.experts / 4).clamp(1, SET).min(order.len() / 2);
        if size == 0 {
            continue;
        }
        let load = |experts: &[usize]| {
            let hits = layer.choices.iter().filter(|expert| experts.contains(&(**expert as usize))).count();
            hits as f64 / layer.choices.len().max(1) as f64
        };
        for most_used in [true, false] {
            let mut experts =
                if most_used { order[..size].to_vec() } else { order[order.len() - size..].to_vec() };
            experts.sort_unstable();
            found.push(SetEffect {
                layer: layer.layer,
                most_used,
                load: load(&experts),
                experts,
                how: How::Zero,
                loss: Bootstrap::without_interval(f64::NAN, 0),
                p_value: f64::NAN,
            });
        }
    }
    Ok(found)
}

/// The edits that take a set out in each way, for every sample: `[way][sample]`.
fn edits_of(
    material: &mut Material<'_>,
    samples: &[Sample],
    set: &SetEffect,
    seed: Seed,
) -> Result<Vec<Vec<Vec<Edit>>>, AnalysisError> {
    let heads = material.subject.shape().heads;
    let mut all = vec![vec![Vec::new(); samples.len()]; WAYS.len()];
    for expert in &set.experts {
        let component = Component::Expert { layer: set.layer, expert: *expert };
        let values = recorded(material, samples, component.at())?;
        let (means, others) = (means(&values), Others::of(&values, seed));
        for (how, of_way) in WAYS.into_iter().zip(&mut all) {
            for (number, (value, own)) in values.iter().zip(of_way).enumerate() {
                own.extend(edits((component, heads), how, value, &means, (&others, number)));
            }
        }
    }
    Ok(all)
}

/// One row for each set and way.
///
/// # Errors
/// If the columns make no table.
pub(super) fn table(found: &[SetEffect]) -> Result<Table, AnalysisError> {
    let text = |of: &dyn Fn(&SetEffect) -> String| found.iter().map(of).collect::<Vec<String>>();
    let names = |row: &SetEffect| row.experts.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    let mut columns = vec![
        Column::integer_key("layer", "", "block", found.iter().map(|row| row.layer as i64).collect()),
        Column::key(
            "set",
            "a quarter of the experts of a layer, one at least, sixteen at most",
            text(&which),
        ),
        Column::key("how", "what stands in the place of their answers", text(&|row| row.how.name().into())),
        Column::text("experts", "their numbers", text(&names)),
        Column::estimate(
            "load",
            "share of slots",
            "that the set has",
            found.iter().map(|row| row.load).collect(),
        ),
    ];
    let values: Vec<Bootstrap> = found.iter().map(|row| row.loss).collect();
    let nats = "nats per token";
    columns.extend(bootstrap_columns("loss", nats, "rise of the loss without the set", &values));
    columns.push(Column::null("loss", nats, "experts that write nothing", vec![0.0; found.len()]));
    let p = found.iter().map(|row| row.p_value).collect();
    columns.push(Column::p_value("loss", "of no change, two-sided, t over documents", p));
    let method = "A quarter of the experts of a layer, sixteen at most, with most or with fewest tokens, experts that no token chose left out. All answers of the set are exchanged at \
                  once, before their weights; tokens keep their choice. Does not show what other experts would do in their place.";
    Ok(Table::new("ablation_sets", "What the model loses without sets of experts", method, columns)?)
}

fn which(row: &SetEffect) -> String {
    format!("{} used of layer {}", if row.most_used { "most" } else { "least" }, row.layer)
}

/// What sets are worth, as zeros.
pub(super) fn figure(found: &[SetEffect]) -> Figure {
    let zero: Vec<&SetEffect> = found.iter().filter(|row| row.how == How::Zero).collect();
    let p = holm(&zero.iter().map(|row| row.p_value).collect::<Vec<f64>>());
    let needed = |most_used: bool| {
        let of = zero.iter().zip(&p).filter(|(row, _)| row.most_used == most_used);
        of.filter(|(row, p)| **p <= 0.05 && row.loss.estimate > 0.0).count()
    };
    let layers = zero.len() / 2;
    let most = zero.iter().map(|row| row.experts.len()).max().unwrap_or(0);
    Figure {
        id: "ablation_sets".into(),
        title: format!(
            "The loss rises without the {} together in {} of {} looked at, without as many least used in {}",
            counted(most, "most used expert", "most used experts"),
            needed(true),
            counted(layers, "layer", "layers"),
            needed(false)
        ),
        caption: "Rise of the loss with the answers of the set as zeros, means, or those to another token, with 95 % intervals over documents; the title \
                  counts zeros, by Holm at 5 %. The table has the load of each set."
            .into(),
        table: "ablation_sets".into(),
        kind: FigureKind::Bars { x: "set".into(), y: "loss".into(), series: Some("how".into()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted_model::{batch, model, own_text, resampling};
    use moescope_base::{HookPoint, Site, TokenSelection, ValueEdit};
    use moescope_model::ModelSubject;

    #[test]
    fn sets_go_at_once_and_their_effect_is_that_of_the_edits_made_by_hand() {
        let sample = own_text(&model(1, 3, |_, _| {}), 40, 5);
        let mut subject = ModelSubject::new(model(1, 3, |_, _| {}));
        let samples = [sample];
        let found = {
            let mut material = Material::new(&mut subject, vec![batch(&samples[0])], Seed(1)).unwrap();
            effects(&mut material, &samples, resampling(2), Seed(4)).unwrap()
        };
        assert_eq!(found.len(), 2 * WAYS.len());
        let judged = Judged::new("test", &samples).unwrap();
        let free = judged.losses(&mut subject, &[]).unwrap();
        let documents: Vec<usize> = (0..free.len()).collect();
        for row in found.iter().filter(|row| row.how == How::Zero) {
            let zero = |expert: &usize| Edit::Value {
                at: HookPoint::expert(Site::ExpertOut, 0, *expert),
                tokens: TokenSelection::All,
                change: ValueEdit::Zero,
            };
            let edits: Vec<Edit> = row.experts.iter().map(zero).collect();
            let with = judged.losses(&mut subject, &edits).unwrap();
            let wanted = judged.estimate(&minus(&with, &free), &documents);
            assert!((row.loss.estimate - wanted).abs() < 1e-6, "{row:?}");
        }
        let [most, least] = [true, false].map(|most| found.iter().find(|row| row.most_used == most).unwrap());
        assert!(most.load >= least.load && most.experts != least.experts);
        let table = table(&found).unwrap();
        assert_eq!(table.rows(), found.len());
        assert!(figure(&found).title.contains("of 1 layer looked at,"), "{}", figure(&found).title);
    }

    #[test]
    fn experts_that_write_nothing_are_worth_nothing_as_a_set() {
        let silent = |name: &str, values: &mut [f32]| {
            if name.contains("down_proj") {
                values.fill(0.0);
            }
        };
        let sample = own_text(&model(1, 3, |_, _| {}), 20, 5);
        let mut subject = ModelSubject::new(model(1, 3, silent));
        let mut material = Material::new(&mut subject, vec![batch(&sample)], Seed(1)).unwrap();
        let found = effects(&mut material, &[sample], resampling(2), Seed(4)).unwrap();
        assert!(found.iter().all(|row| row.loss.estimate == 0.0 && row.p_value == 1.0), "{found:?}");
    }
}
