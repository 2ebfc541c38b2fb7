//! The instrument `expert-profile`.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::promoted::promoted_tokens;
use super::telling::{Tokens, telling_tokens};
use crate::AnalysisError;
use crate::instrument::{
    About, Finding, Group, Instrument, Material, Promise, Property, Reading, Reads, Rule,
};
use crate::statistics::holm;
use crate::wording::counted;

/// Tokens that are named for each expert.
const NAMED: usize = 5;

/// The instrument `expert-profile`.
pub struct ExpertProfile;

const KNOWN: Reading = Reading {
    says: "an expert is known by a token",
    table: "expert_profile",
    rows: &[],
    value: "telling",
    rule: Rule::Significant,
};

const PROMISES: &[Promise] =
    &[Promise::finds(Property::TokenRoutes, KNOWN), Promise::is_silent(Property::RandomRoutes, KNOWN)];

impl Instrument for ExpertProfile {
    fn about(&self) -> About {
        About {
            name: "expert-profile",
            group: Group::Routing,
            question: "By which tokens and which domain is each expert known, and which tokens do its answers promote?",
            null: "the routes of each document moved along it, loads and neighbours kept",
            does_not_show: "why tokens go there, nor that the promoted tokens survive the layers that follow",
            source: "vocabulary specialisation of Muennighoff et al. 2024 (OLMoE) with a test; promoted tokens after Geva et al. 2022",
            passes: "one for each batch, and for each layer one of at most 64 sequences",
            routed: true,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn reads(&self) -> Reads {
        Reads::Whole
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        // One p-value counts the draws of all experts of its layer, so that layers alone want more of them.
        let layers = material.subject.shape().routed_layers().len();
        let permutations = material.permutations_for("expert profiles", layers);
        let trace = material.routes()?;
        let (tokens, names) = (trace.tokens().clone(), trace.tokens().domain_names.clone());
        let mut rows = Vec::new();
        for layer in trace.layers() {
            let permutations = permutations.index(layer.layer);
            let told = telling_tokens(layer, &tokens.ids, &tokens.documents, NAMED, permutations);
            let domains = domains(layer, &tokens.domains, names.len());
            let of = |(expert, (tokens, domain))| Row {
                layer: layer.layer,
                expert,
                tokens,
                domain,
                promoted: Vec::new(),
            };
            rows.extend(told.into_iter().zip(domains).enumerate().map(of));
        }
        let layers: Vec<usize> = trace.layers().iter().map(|layer| layer.layer).collect();
        for layer in layers {
            let promoted = promoted_tokens(material, layer, NAMED)?;
            let own = rows.iter_mut().filter(|row| row.layer == layer);
            own.zip(promoted).for_each(|(row, promoted)| row.promoted = promoted);
        }
        let table = table(&rows, &names, material)?;
        let figure = figure(&rows, material);
        Ok(Finding { tables: vec![table], figures: vec![figure] })
    }
}

/// One expert.
struct Row {
    layer: usize,
    expert: usize,
    tokens: Tokens,
    /// The domain in which it is chosen most, and how many times as often as on average; none where no token chooses it.
    domain: Option<(usize, f64)>,
    promoted: Vec<u32>,
}

/// For each expert the domain with the largest lift.
fn domains(layer: &moescope_trace::LayerRouting, domains: &[u16], count: usize) -> Vec<Option<(usize, f64)>> {
    let mut hits = vec![vec![0.0_f64; count]; layer.experts];
    let mut of = vec![0.0_f64; count];
    for (token, domain) in domains.iter().enumerate() {
        of[*domain as usize] += 1.0;
        layer.chosen(token).iter().for_each(|expert| hits[*expert as usize][*domain as usize] += 1.0);
    }
    let lift = |hits: &Vec<f64>| {
        let load = hits.iter().sum::<f64>() / domains.len().max(1) as f64;
        let lifts = hits.iter().zip(&of).map(|(hits, of)| hits / of / load).enumerate();
        lifts.filter(|(_, lift)| lift.is_finite()).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
    };
    hits.iter().map(lift).collect()
}

fn table(rows: &[Row], names: &[String], material: &Material<'_>) -> Result<Table, AnalysisError> {
    let real = |of: &dyn Fn(&Row) -> f64| rows.iter().map(of).collect::<Vec<f64>>();
    let text = |of: &dyn Fn(&Row) -> String| rows.iter().map(of).collect::<Vec<String>>();
    let key = |of: &dyn Fn(&Row) -> usize| rows.iter().map(|row| of(row) as i64).collect::<Vec<i64>>();
    let telling = |row: &Row| {
        let one = |t: &super::Telling| format!("{} {}/{}", material.word(t.id), t.hits, t.of);
        row.tokens.first.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let promoted =
        |row: &Row| row.promoted.iter().map(|id| material.word(*id)).collect::<Vec<_>>().join(", ");
    let domain = |row: &Row| row.domain.map_or_else(String::new, |(domain, _)| names[domain].clone());
    let columns = vec![
        Column::integer_key("layer", "", "block, counted from 0", key(&|row| row.layer)),
        Column::integer_key("expert", "", "expert, counted from 0", key(&|row| row.expert)),
        Column::estimate("load", "share of tokens", "tokens that choose it", real(&|row| row.tokens.load)),
        Column::text("tokens", "most telling tokens, with occurrences that choose it of all", text(&telling)),
        Column::estimate(
            "telling",
            "standard deviations",
            "how far the first of them is beyond chance",
            real(&|row| row.tokens.first.first().map_or(0.0, |first| first.deviance)),
        ),
        Column::null(
            "telling",
            "standard deviations",
            "routes moved along each document",
            real(&|row| row.tokens.null),
        ),
        Column::p_value(
            "telling",
            "shuffles of the layer's experts that tell as much",
            real(&|row| row.tokens.p_value),
        ),
        Column::text("domain", "domain in which it is chosen most", text(&domain)),
        Column::estimate(
            "lift",
            "times",
            "how often there, against everywhere",
            real(&|row| row.domain.map_or(f64::NAN, |domain| domain.1)),
        ),
        Column::text("promotes", "tokens with the largest logits along its mean answer", text(&promoted)),
    ];
    let method = "Tokens that occur five times or more. Deviance is the signed root of that of a binomial with the expert's load. The null \
                  moves the routes of each document along it. Lift has no interval: it is the largest of all domains. \
                  The mean answer is that beyond the mean of all experts of the layer, weighted as applied, read by the final norm and \
                  the unembedding.";
    Ok(Table::new("expert_profile", "What each expert is known by", method, columns)?)
}

fn figure(rows: &[Row], material: &Material<'_>) -> Figure {
    let p: Vec<f64> = rows.iter().map(|row| row.tokens.p_value).collect();
    let called: Vec<bool> = holm(&p).into_iter().map(|p| p <= 0.05).collect();
    let known = called.iter().filter(|called| **called).count();
    let verb = if known == 1 { "is" } else { "are" };
    let telling = |row: &&Row| row.tokens.first.first().map_or(0.0, |first| first.deviance);
    let named = rows.iter().zip(&called).filter(|(_, called)| **called).map(|(row, _)| row);
    let most = named.max_by(|a, b| telling(a).total_cmp(&telling(b)));
    let example = most.and_then(|row| Some((row, row.tokens.first.first()?))).map_or_else(
        String::new,
        |(row, first)| {
            let word = material.word(first.id);
            let (layer, expert, hits, of) = (row.layer, row.expert, first.hits, first.of);
            format!("; most expert {expert} of layer {layer}, which {hits} of {of} {word} choose")
        },
    );
    Figure {
        id: "expert_profile".into(),
        title: format!("{known} of {} {verb} known by a token{example}", counted(rows.len(), "expert", "experts")),
        caption: "How far the most telling token of each expert is beyond chance, in standard deviations; by Holm at 5 %.".into(),
        table: "expert_profile".into(),
        kind: FigureKind::Heatmap { x: "expert".into(), y: "layer".into(), value: "telling".into(), center: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted_model::{EXPERTS, batch, model, own_text, rename};
    use crate::routing::planted;
    use moescope_base::Seed;
    use moescope_model::ModelSubject;

    #[test]
    fn the_strongest_domain_by_hand() {
        // Six tokens, four of domain 0 and two of domain 1. Expert 0 gets three of the first and none of the second: 3/4 of a load of 1/2. Expert 1
        // gets one of each: 1/2 of the second domain at a load of 1/3. Expert 2 gets one of the second at 1/6, expert 3 nothing.
        let layer = planted::layer(0, 4, 1, vec![0, 0, 0, 1, 1, 2]);
        let found = domains(&layer, &[0, 0, 0, 0, 1, 1], 2);
        assert_eq!(found, [Some((0, 1.5)), Some((1, 1.5)), Some((1, 3.0)), None]);
        // Where an expert is chosen alike everywhere, the first domain is named, at its average.
        assert_eq!(domains(&planted::layer(0, 1, 1, vec![0; 4]), &[0, 1, 1, 0], 2), [Some((0, 1.0))]);
    }

    /// What is told of every expert of the planted model, in the order of experts.
    fn told(turn: bool) -> Vec<(f64, f64, String, String)> {
        let text = own_text(&model(1, 3, |_, _| {}), 16, 5);
        let mut subject = ModelSubject::new(if turn { model(1, 3, rename) } else { model(1, 3, |_, _| {}) });
        let mut material = Material::new(&mut subject, vec![batch(&text)], Seed(1)).unwrap();
        material.permutations = 19;
        let table = ExpertProfile.run(&mut material).unwrap().tables.remove(0);
        let number = |column: &str, row: usize| table.column(column).unwrap().data.number(row).unwrap();
        let label = |column: &str, row: usize| table.column(column).unwrap().data.label(row);
        let row = |row: usize| {
            (number("load", row), number("telling", row), label("tokens", row), label("promotes", row))
        };
        assert_eq!(table.rows(), EXPERTS);
        (0..EXPERTS).map(row).collect()
    }

    #[test]
    fn experts_keep_their_profiles_under_other_names() {
        let (plain, renamed) = (told(false), told(true));
        assert!(plain.iter().any(|row| row.1 > 4.0), "routers read the token: {plain:?}");
        for (expert, row) in plain.iter().enumerate() {
            assert_eq!(*row, renamed[(expert + EXPERTS - 1) % EXPERTS], "expert {expert}");
        }
    }
}
