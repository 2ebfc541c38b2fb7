//! The instrument `domain-shift`.

use moescope_base::{Column, Figure, FigureKind, Table};

use super::{Disturbance, DomainLoad, METHOD, RouteShift, Shift, Tokens, domain_loads, shift};
use crate::AnalysisError;
use crate::instrument::{About, Finding, Group, Instrument, Material, Promise, Property, Reading, Rule};
use crate::statistics::Bootstrap;
use crate::tabulate::bootstrap_columns;

/// Sequences that are looked at, at most.
const SEQUENCES: usize = 64;

/// The instrument `domain-shift`.
///
/// Three tables: what a disturbed text costs (`shift_loss`), whether routes stay (`shift_routes`), and how domains load experts otherwise than
/// the rest (`shift_domains`, where the text has more than one). See [`Shift`], [`RouteShift`] and [`DomainLoad`] for units, nulls and limits.
pub struct DomainShift;

/// Another token in the same place goes elsewhere: routes read the token.
const TOUCHED_MOVE: Reading = Reading {
    says: "replaced tokens are routed otherwise in block 0",
    table: "shift_routes",
    rows: &[("disturbance", "tokens replaced"), ("amount", "0.5"), ("tokens", "touched"), ("layer", "0")],
    value: "agreement",
    rule: Rule::LessThan(0.9),
};
/// The same token in a disturbed context goes elsewhere: routes read the context.
const UNTOUCHED_MOVE: Reading = Reading {
    says: "tokens among replaced ones are routed otherwise in block 0",
    table: "shift_routes",
    rows: &[("disturbance", "tokens replaced"), ("amount", "0.5"), ("tokens", "untouched"), ("layer", "0")],
    value: "agreement",
    rule: Rule::LessThan(0.9),
};
/// Some domain has experts of its own; p-values are corrected over domains.
const DOMAIN_APART: Reading = Reading {
    says: "a domain loads experts otherwise than the mixture without it",
    table: "shift_domains",
    rows: &[],
    value: "shift",
    rule: Rule::Significant,
};

/// Routers that read one thing alone must move with it, and with nothing else.
const PROMISES: &[Promise] = &[
    Promise::finds(Property::TokenRoutes, TOUCHED_MOVE),
    Promise::is_silent(Property::PositionRoutes, TOUCHED_MOVE),
    Promise::finds(Property::RandomRoutes, UNTOUCHED_MOVE),
    Promise::is_silent(Property::TokenRoutes, UNTOUCHED_MOVE),
    Promise::finds(Property::DomainRoutes, DOMAIN_APART),
    Promise::is_silent(Property::TokenRoutes, DOMAIN_APART),
];

impl Instrument for DomainShift {
    fn about(&self) -> About {
        About {
            name: "domain-shift",
            group: Group::Practice,
            question: "What becomes of loss, routes and load when the text is disturbed, and how does a domain load experts otherwise than the rest?",
            null: "tokens whose context alone is disturbed; routes that depend on the load alone; documents dealt to domains anew",
            does_not_show: "what another language or subject does: a disturbed text is no text of any domain",
            source: "agreement of sets as in OLMoE (Muennighoff et al. 2024); sensitivity to shuffled tokens, Sinha et al. 2021 (arXiv 2104.06644)",
            passes: "one for the routes, and 10 of at most 64 sequences",
            routed: false,
            gives: super::gives::GIVES,
            promises: PROMISES,
        }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        let (seed, resampling) = (material.seed.child(METHOD), material.resampling(METHOD));
        let (permutations, names) = (material.permutations, material.domain_names().to_vec());
        let samples = material.some_samples(METHOD, SEQUENCES)?;
        let (losses, routes) = shift(material.subject, &samples, seed, resampling)?;
        let (mut tables, mut figures) = (vec![loss_table(&losses)?], vec![loss_figure(&losses, &routes)]);
        if !routes.is_empty() {
            tables.push(route_table(&routes)?);
            figures.push(route_figure(&routes));
            // A text of one domain has no mixture to leave it out of.
            if names.len() > 1 {
                tables.push(domain_table(&domain_loads(material.routes()?, permutations, seed)?, &names)?);
            }
        }
        Ok(Finding { tables, figures })
    }
}

fn loss_figure(losses: &[Shift], routes: &[RouteShift]) -> Figure {
    Figure {
                id: "shift_loss".into(),
                title: loss_finding(losses, routes),
                caption: "Change of the loss where the next token is the same as it was; after tokens that were disturbed, and after tokens of \
                          which the context alone was."
                    .into(),
                table: "shift_loss".into(),
                kind: FigureKind::Lines {
                    x: "amount".into(),
                    y: "loss".into(),
                    series: Some("line".into()),
                    log2_x: false,
                },
            }
}

fn route_figure(routes: &[RouteShift]) -> Figure {
    Figure {
        id: "shift_routes".into(),
        title: route_finding(routes),
        caption: "Share of the chosen experts that stay, beside routes that depend on the load alone.".into(),
        table: "shift_routes".into(),
        kind: FigureKind::Bars { x: "layer".into(), y: "agreement".into(), series: Some("line".into()) },
    }
}

/// Names of a disturbance in a picture.
fn line(disturbance: Disturbance, tokens: Tokens) -> String {
    format!("{}, {}", disturbance.name(), tokens.name())
}

/// One row for each disturbance and kind of token.
fn loss_table(found: &[Shift]) -> Result<Table, AnalysisError> {
    let text = |of: &dyn Fn(&Shift) -> String| found.iter().map(of).collect::<Vec<String>>();
    let losses: Vec<Bootstrap> = found.iter().map(|row| row.loss).collect();
    let mut columns = vec![
        Column::key("line", "disturbance and tokens", text(&|row| line(row.disturbance, row.tokens))),
        Column::key("disturbance", "what was done", text(&|row| row.disturbance.name().into())),
        Column::key("tokens", "after which tokens", text(&|row| row.tokens.name().into())),
        Column::estimate(
            "amount",
            "share of tokens or of the embedding",
            "how much",
            found.iter().map(|row| row.disturbance.amount()).collect(),
        ),
    ];
    columns.extend(bootstrap_columns(
        "loss",
        "nats per token",
        "loss minus that of the text as it is",
        &losses,
    ));
    let null = found.iter().map(|row| match row.tokens {
        Tokens::Untouched => 0.0,
        Tokens::Touched => {
            let beside =
                |other: &&Shift| other.disturbance == row.disturbance && other.tokens == Tokens::Untouched;
            found.iter().find(beside).map_or(f64::NAN, |other| other.loss.estimate)
        }
    });
    let meaning = "of touched tokens: the change after untouched ones; of these: no change";
    columns.push(Column::null("loss", "nats per token", meaning, null.collect()));
    let method = "Tokens exchanged within the document or replaced by others of the text, or noise added to the embedding of every other token; loss \
                  where the next token stays. Does not show what another subject does.";
    Ok(Table::new("shift_loss", "What a disturbed text costs", method, columns)?)
}

/// One row for each disturbance, kind of token and layer.
fn route_table(found: &[RouteShift]) -> Result<Table, AnalysisError> {
    let text = |of: &dyn Fn(&RouteShift) -> String| found.iter().map(of).collect::<Vec<String>>();
    let of = |pick: fn(&RouteShift) -> Bootstrap| found.iter().map(pick).collect::<Vec<Bootstrap>>();
    let amount = |row: &RouteShift| {
        format!("{} {}, {}", row.disturbance.name(), row.disturbance.amount(), row.tokens.name())
    };
    let mut columns = vec![
        Column::integer_key("layer", "", "block", found.iter().map(|row| row.layer as i64).collect()),
        Column::key("line", "disturbance, amount and tokens", text(&amount)),
        Column::key("disturbance", "what was done", text(&|row| row.disturbance.name().into())),
        Column::key("tokens", "of which tokens", text(&|row| row.tokens.name().into())),
        Column::estimate(
            "amount",
            "share of tokens or of the embedding",
            "how much",
            found.iter().map(|row| row.disturbance.amount()).collect(),
        ),
    ];
    let (share, shift) = ("share of experts", "share of slots");
    columns.extend(bootstrap_columns(
        "agreement",
        share,
        "chosen experts that stay",
        &of(|row| row.agreement),
    ));
    let chance = found.iter().map(|row| row.chance).collect();
    columns.push(Column::null("agreement", share, "independent routes with these loads", chance));
    let meaning = "distance between the loads before and after, over all tokens";
    columns.extend(bootstrap_columns("load_shift", shift, meaning, &of(|row| row.load_shift)));
    columns.push(Column::null("load_shift", shift, "the same load", vec![0.0; found.len()]));
    let method = "Sets of experts of the same places of the text, before and after. At most eight layers. Does not show whether a changed route \
                  matters.";
    Ok(Table::new("shift_routes", "Whether routes stay when the text is disturbed", method, columns)?)
}

/// One row for each domain.
fn domain_table(found: &[DomainLoad], names: &[String]) -> Result<Table, AnalysisError> {
    let unit = "share of slots";
    let real = |of: fn(&DomainLoad) -> f64| found.iter().map(of).collect::<Vec<f64>>();
    let columns = vec![
        Column::key(
            "domain",
            "left out of the mixture",
            found.iter().map(|row| names[row.domain].clone()).collect(),
        ),
        Column::estimate(
            "shift",
            unit,
            "distance of its load from that of the others",
            real(|row| row.shift.observed),
        ),
        Column::observations("shift", "documents", found.iter().map(|row| row.documents as i64).collect()),
        Column::null("shift", unit, "documents dealt to domains anew", real(|row| row.shift.null_mean)),
        Column::p_value("shift", "at least as large with documents dealt out", real(|row| row.shift.p_value)),
        Column::estimate("p_holm", "probability", "the same, corrected over domains", real(|row| row.p_holm)),
    ];
    let method = "Total variation distance between the shares of slots that experts have in one domain and in all others, mean over layers. Does \
                  not show whether words or subject decide.";
    Ok(Table::new("shift_domains", "How domains load experts otherwise than the rest", method, columns)?)
}

/// Mean agreement over layers.
fn agreement(routes: &[RouteShift], disturbance: Disturbance, tokens: Tokens) -> f64 {
    let rows = || routes.iter().filter(|row| row.disturbance == disturbance && row.tokens == tokens);
    rows().map(|row| row.agreement.estimate).sum::<f64>() / rows().count() as f64
}

/// What a quarter of replaced tokens costs, after these and after the others, and how many experts the others keep.
fn loss_finding(losses: &[Shift], routes: &[RouteShift]) -> String {
    let quarter = Disturbance::Replaced(0.25);
    let after = |tokens: Tokens| {
        let row = losses.iter().find(|row| row.disturbance == quarter && row.tokens == tokens);
        row.map_or(f64::NAN, |row| row.loss.estimate)
    };
    let told = format!(
        "With a quarter of the tokens replaced the loss changes by {:+.3} nats after these and by {:+.3} after the others",
        after(Tokens::Touched),
        after(Tokens::Untouched)
    );
    match routes.is_empty() {
        true => told,
        false => {
            let kept = 100.0 * agreement(routes, quarter, Tokens::Untouched);
            format!("{told}, which keep {kept:.0} % of their experts")
        }
    }
}

/// How many experts untouched tokens keep under the strongest disturbance of each kind.
fn route_finding(routes: &[RouteShift]) -> String {
    let kept = |disturbance: Disturbance| 100.0 * agreement(routes, disturbance, Tokens::Untouched);
    format!(
        "Tokens whose context alone is disturbed keep {:.0} % of their experts where half of the others change places, {:.0} % where half are \
         replaced, {:.0} % where every other embedding has noise of its own size",
        kept(Disturbance::Exchanged(0.5)),
        kept(Disturbance::Replaced(0.5)),
        kept(Disturbance::Noise(1.0))
    )
}
