//! What instruments must not see: in which basis the stream stands, what experts are called, in which order the documents of a text are read, and
//! how many sequences go into one pass.
//!
//! Norms of unit gain know no axes, so that a model whose stream is turned, with all that reads it and all that writes it, computes the same. Experts
//! of other names stand in other rows of tables, so that the numbers of a column are compared in their order of size.

use moescope_base::{ColumnRole, Seed, Table, Tokens};
use moescope_model::{Description, FeedForward, Model, ModelSubject, Routed, Router, Variation};
use moescope_trace::TokenTable;
use rand::seq::SliceRandom;

use super::{CASE, Group, Instrument, Material, named};
use crate::matrix::random_rotation;
use crate::planted_model::turn_basis;
use crate::routing::planted;

const WIDTH: usize = 16;
const EXPERTS: usize = 4;
/// Documents of each of two batches, and tokens of a document.
const USUAL: [usize; 2] = [8, 12];
/// The same for instruments that learn from more.
const LONG: [usize; 2] = [32, 24];
/// Instruments that do.
const NEEDS_MORE: &[&str] = &["dictionary", "superposition"];

/// Instruments that the basis may change, and why.
const SEES_AXES: &[(&str, &str)] = &[
    ("domain-probe", "coordinates are brought to one scale, each by itself"),
    ("dictionary", "trainings begin with directions that do not turn along"),
    ("tuned-lens", "steps of Adam are taken along the axes"),
    ("causal-trace", "noise is drawn along the axes"),
    ("quantised-experts", "numbers are rounded along the axes"),
    ("domain-shift", "noise is drawn along the axes"),
];
/// Columns of other instruments that it may change: random directions are drawn along the axes, and receivers are those that stand out from them.
const COLUMNS_THAT_SEE_AXES: &[&str] = &["path_patch_edges beyond", "path_patch kl", "path_patch loss"];
/// Measures of likeness that follow the size of coordinates.
const MEASURES_THAT_SEE_AXES: &[&str] = &["RSA", "PWCCA"];

/// Instruments that names of experts may change, and why.
const SEES_NAMES: &[(&str, &str)] = &[
    ("predictability", "of equal counts the lower number is predicted"),
    (
        "dictionary",
        "a training carries on what sums in another order round: features at the brink of being active come and go",
    ),
    ("tuned-lens", "the number of an expert seeds the beginning of its correction"),
    ("routing-regret", "a few other sets are drawn of all that there are"),
];
/// Columns of other instruments that they may change: what is drawn for a null, less which something is told, and a name; and of experts that are
/// used alike the lower number goes first.
const COLUMNS_THAT_SEE_NAMES: &[&str] = &[
    "routing_coactivation strongest_partner_excess",
    "expert_pruning loss",
    "expert_pruning saved",
    "neuron_pruning saved",
    "quantised_parts beyond",
    "prefill_decode gained",
];

/// Instruments that the order of documents may change, and why.
const SEES_ORDER: &[(&str, &str)] = &[
    ("dictionary", "its training meets tokens in the order of the text"),
    ("tuned-lens", "its training meets tokens in the order of the text"),
    ("attribution-patching", "its edits are drawn by the place of a sequence"),
];
/// Columns of other instruments that it may change: the other occurrence of a token is drawn by place among all that there are, and so are the texts in
/// which a path is shown; of texts in which a neuron is equally strong the earlier one is shown.
const COLUMNS_THAT_SEE_ORDER: &[&str] = &[
    "context_agreement same",
    "context_agreement gain",
    "path_texts document",
    "path_passages loss",
    "neuron_texts document",
    "neuron_passages value",
];
/// Instruments that draw within a pass of drawn sequences, of which there are sixteen, or fewer where the passes of the text are smaller.
const SEES_SMALL_PASSES: &[&str] = &[
    "activation-patch",
    "causal-trace",
    "domain-shift",
    "jacobian-lens",
    "path-patch",
    "route-patch",
    "routing-regret",
];
/// Rows that it may change: clusters begin with vectors that are drawn by place.
const ROWS_THAT_SEE_ORDER: &[&str] = &["cluster of the router's input"];

/// Two routed blocks whose heads, routers and experts all say something.
fn model(change: impl Fn(&str, &mut [f32])) -> Model {
    let router = Router::learned(true);
    let routed = Routed { experts: EXPERTS, expert_width: 6, per_token: 2, router, shared: None };
    let description = Description {
        vocab: 60,
        d_model: WIDTH,
        heads: 2,
        key_value_heads: 2,
        head_dim: 8,
        rope_theta: 10_000.0,
        norm_epsilon: 1e-6,
        max_positions: 64,
        tied_embeddings: false,
        qk_norm: false,
        feed_forward: vec![FeedForward::Routed(routed); 2],
        variation: Variation::default(),
    };
    let mut model = Model::initialise(description, Seed(11)).unwrap();
    for parameter in model.parameters_mut() {
        let data = parameter.tensor.data_mut();
        let factor = if parameter.name.contains("norm") { 1.0 } else { 5.0 };
        data.iter_mut().for_each(|weight| *weight *= factor);
        change(&parameter.name.clone(), parameter.tensor.data_mut());
    }
    model
}

fn plain() -> Model {
    model(|_, _| {})
}

fn turned() -> Model {
    let rotation = random_rotation(WIDTH, Seed(5));
    model(|name, data| turn_basis(name, data, &rotation, [16, 6]))
}

fn renamed() -> Model {
    model(|name, data| {
        if name.contains("mlp.experts") || name.contains("mlp.gate.") {
            data.rotate_left(data.len() / EXPERTS);
        }
    })
}

/// The text that an instrument is given, in two batches.
fn batches(instrument: &dyn Instrument) -> Vec<(Tokens, TokenTable)> {
    batches_of(size(instrument))
}

/// Two batches of so many documents of so many tokens; documents belong to two domains in turn.
fn batches_of([documents, length]: [usize; 2]) -> Vec<(Tokens, TokenTable)> {
    let batch = |number: usize| {
        let mut table = planted::text(documents, length, 60, &mut Seed(number as u64).rng());
        table.documents.iter_mut().for_each(|document| *document += (number * documents) as u32);
        (Tokens::new(table.ids.clone(), documents, length).unwrap(), table)
    };
    (0..2).map(batch).collect()
}

fn size(instrument: &dyn Instrument) -> [usize; 2] {
    if NEEDS_MORE.contains(&instrument.about().name) { LONG } else { USUAL }
}

/// The same batches with their sequences in another order; every document keeps its number, its domain and its tokens.
fn reordered(instrument: &dyn Instrument) -> Vec<(Tokens, TokenTable)> {
    let [documents, length] = size(instrument);
    let batch = |(number, (_, table)): (usize, (Tokens, TokenTable))| {
        let mut order: Vec<usize> = (0..documents).collect();
        order.shuffle(&mut Seed(number as u64).child("order").rng());
        let rows: Vec<usize> =
            order.iter().flat_map(|document| document * length..(document + 1) * length).collect();
        let table = table.select(&rows);
        (Tokens::new(table.ids.clone(), documents, length).unwrap(), table)
    };
    batches(instrument).into_iter().enumerate().map(batch).collect()
}

/// The same sequences in passes of another size, as they are with less memory.
fn divided([documents, length]: [usize; 2]) -> Vec<(Tokens, TokenTable)> {
    let mut tables = batches_of([documents, length]).into_iter().map(|(_, table)| table);
    let mut all = tables.next().unwrap();
    tables.for_each(|table| all.extend(table).unwrap());
    let each = documents * 3 / 4;
    let part = |first: usize| {
        let last = (first + each).min(2 * documents);
        let table = all.select(&(first * length..last * length).collect::<Vec<usize>>());
        (Tokens::new(table.ids.clone(), last - first, length).unwrap(), table)
    };
    (0..2 * documents).step_by(each).map(part).collect()
}

/// Estimates of an instrument: name of table and column, and the numbers in the order of rows, but for rows with one of these names.
fn estimates(instrument: &dyn Instrument, model: Model, without: &[&str]) -> Vec<(String, Vec<f64>)> {
    estimates_of(instrument, (model, batches(instrument)), without)
}

/// The same on a text of its own.
fn estimates_of(
    instrument: &dyn Instrument,
    (model, text): (Model, Vec<(Tokens, TokenTable)>),
    without: &[&str],
) -> Vec<(String, Vec<f64>)> {
    let mut subject = ModelSubject::new(model);
    let mut material = Material::new(&mut subject, text, Seed(1)).unwrap();
    (material.permutations, material.replicates, material.room_for_weights) = (9, 20, false);
    let found = instrument.run(&mut material);
    let found = found.unwrap_or_else(|error| panic!("{}: {error}", instrument.about().name));
    let rows = |table: &Table| -> Vec<usize> {
        let keys = || table.columns().iter().filter(|column| column.role == ColumnRole::Key);
        let left_out = |row: &usize| keys().any(|key| without.contains(&key.data.label(*row).as_str()));
        (0..table.rows()).filter(|row| !left_out(row)).collect()
    };
    let mut told = Vec::new();
    for table in &found.tables {
        for column in table.columns().iter().filter(|column| column.role == ColumnRole::Estimate) {
            let numbers = rows(table).iter().filter_map(|row| column.data.number(*row)).collect();
            told.push((format!("{} {}", table.name(), column.name), numbers));
        }
    }
    told
}

/// Names of tables and columns that were told of.
fn names(told: &[(String, Vec<f64>)]) -> Vec<&str> {
    told.iter().map(|(name, _)| name.as_str()).collect()
}

/// The largest difference of two lists as a share of what rounding may do.
fn apart(own: &[f64], other: &[f64]) -> f64 {
    let one = |(a, b): (&f64, &f64)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) => (a - b).abs() / (3e-4 + 3e-3 * a.abs().max(b.abs())),
        _ => f64::INFINITY,
    };
    own.iter().zip(other).map(one).fold(if own.len() == other.len() { 0.0 } else { f64::INFINITY }, f64::max)
}

fn sorted(numbers: &[f64]) -> Vec<f64> {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The instruments of a group that look at one model and are not excused.
fn of(group: Group, excused: &'static [(&str, &str)]) -> impl Iterator<Item = &'static dyn Instrument> {
    let looks = move |instrument: &&dyn Instrument| {
        let about = instrument.about();
        about.group == group && !instrument.against() && excused.iter().all(|(name, _)| *name != about.name)
    };
    CASE.iter().copied().filter(looks)
}

fn same_in_a_turned_basis(group: Group) {
    let mut looked = 0;
    for instrument in of(group, SEES_AXES) {
        let own = estimates(instrument, plain(), MEASURES_THAT_SEE_AXES);
        let other = estimates(instrument, turned(), MEASURES_THAT_SEE_AXES);
        assert_eq!(names(&own), names(&other), "{}", instrument.about().name);
        for ((name, own), (_, other)) in own.iter().zip(&other) {
            if !COLUMNS_THAT_SEE_AXES.contains(&name.as_str()) {
                assert!(apart(own, other) < 1.0, "{name}: {own:?} {other:?}");
                looked += own.len();
            }
        }
    }
    assert!(looked > 0, "an instrument of the group tells a number");
}

fn same_under_other_names(group: Group) {
    let (mut looked, mut apart_there) = (0, Vec::new());
    for instrument in of(group, SEES_NAMES) {
        let (own, other) = (estimates(instrument, plain(), &[]), estimates(instrument, renamed(), &[]));
        assert_eq!(names(&own), names(&other), "{}", instrument.about().name);
        for ((name, own), (_, other)) in own.iter().zip(&other) {
            if !COLUMNS_THAT_SEE_NAMES.contains(&name.as_str()) && !name.ends_with("_excess") {
                let (own, other) = (sorted(own), sorted(other));
                looked += own.len();
                if apart(&own, &other) >= 1.0 {
                    apart_there.push(format!("{name}: {own:?} {other:?}"));
                }
            }
        }
    }
    assert!(apart_there.is_empty(), "{}", apart_there.join("\n"));
    assert!(looked > 0, "an instrument of the group tells a number");
}

fn same_in_another_order(group: Group) {
    let (mut looked, mut apart_there) = (0, Vec::new());
    for instrument in of(group, SEES_ORDER) {
        let own = estimates(instrument, plain(), ROWS_THAT_SEE_ORDER);
        let other = estimates_of(instrument, (plain(), reordered(instrument)), ROWS_THAT_SEE_ORDER);
        assert_eq!(names(&own), names(&other), "{}", instrument.about().name);
        for ((name, own), (_, other)) in own.iter().zip(&other) {
            if !COLUMNS_THAT_SEE_ORDER.contains(&name.as_str()) && !name.ends_with("_excess") {
                looked += own.len();
                if apart(own, other) >= 1.0 {
                    apart_there.push(format!("{name}: {own:?} {other:?}"));
                }
            }
        }
    }
    assert!(apart_there.is_empty(), "{}", apart_there.join("\n"));
    assert!(looked > 0, "an instrument of the group tells a number");
}

fn same_in_other_passes(group: Group) {
    let (mut looked, mut apart_there) = (0, Vec::new());
    for instrument in of(group, &[]) {
        let small = SEES_SMALL_PASSES.contains(&instrument.about().name);
        let size = if small { LONG } else { size(instrument) };
        let own = estimates_of(instrument, (plain(), batches_of(size)), &[]);
        let other = estimates_of(instrument, (plain(), divided(size)), &[]);
        assert_eq!(names(&own), names(&other), "{}", instrument.about().name);
        for ((name, own), (_, other)) in own.iter().zip(&other) {
            looked += own.len();
            if apart(own, other) >= 1.0 {
                apart_there.push(format!("{name}: {own:?} {other:?}"));
            }
        }
    }
    assert!(apart_there.is_empty(), "{}", apart_there.join("\n"));
    assert!(looked > 0, "an instrument of the group tells a number");
}

#[test]
fn a_turned_basis_changes_no_number_of_routes_and_paths() {
    same_in_a_turned_basis(Group::Routing);
    same_in_a_turned_basis(Group::Paths);
}

#[test]
fn a_turned_basis_changes_no_number_of_representations() {
    same_in_a_turned_basis(Group::Representation);
}

#[test]
fn a_turned_basis_changes_no_number_of_weights_and_lenses() {
    same_in_a_turned_basis(Group::Weights);
    same_in_a_turned_basis(Group::Lenses);
}

#[test]
fn a_turned_basis_changes_no_number_of_interventions() {
    same_in_a_turned_basis(Group::Causal);
}

#[test]
fn a_turned_basis_changes_no_number_of_practice() {
    same_in_a_turned_basis(Group::Practice);
}

#[test]
fn other_names_of_experts_change_no_number_of_routes_and_paths() {
    same_under_other_names(Group::Routing);
    same_under_other_names(Group::Paths);
}

#[test]
fn other_names_of_experts_change_no_number_of_representations() {
    same_under_other_names(Group::Representation);
}

#[test]
fn other_names_of_experts_change_no_number_of_weights_and_lenses() {
    same_under_other_names(Group::Weights);
    same_under_other_names(Group::Lenses);
}

#[test]
fn other_names_of_experts_change_no_number_of_interventions() {
    same_under_other_names(Group::Causal);
}

#[test]
fn other_names_of_experts_change_no_number_of_practice() {
    same_under_other_names(Group::Practice);
}

#[test]
fn another_order_of_documents_changes_no_number_of_routes_and_paths() {
    same_in_another_order(Group::Routing);
    same_in_another_order(Group::Paths);
}

#[test]
fn another_order_of_documents_changes_no_number_of_representations() {
    same_in_another_order(Group::Representation);
}

#[test]
fn another_order_of_documents_changes_no_number_of_weights_and_lenses() {
    same_in_another_order(Group::Weights);
    same_in_another_order(Group::Lenses);
}

#[test]
fn another_order_of_documents_changes_no_number_of_interventions() {
    same_in_another_order(Group::Causal);
}

#[test]
fn another_order_of_documents_changes_no_number_of_practice() {
    same_in_another_order(Group::Practice);
}

#[test]
fn what_may_see_axes_names_or_order_does() {
    let differs = |name: &str, column: &str, other: Model| {
        let instrument = named(name).unwrap();
        let (own, other) = (estimates(instrument, plain(), &[]), estimates(instrument, other, &[]));
        let of = |told: &[(String, Vec<f64>)]| told.iter().find(|row| row.0 == column).unwrap().1.clone();
        apart(&of(&own), &of(&other)) > 1.0
    };
    assert!(differs("quantised-experts", "quantised_parts error", turned()));
    assert!(differs("domain-shift", "shift_loss loss", turned()));
    assert!(differs("routing", "routing_load_by_expert load", renamed()), "rows stand in another order");
    let patching = named("attribution-patching").unwrap();
    let drawn = |text| estimates_of(patching, (plain(), text), &[]);
    let (own, other) = (drawn(batches(patching)), drawn(reordered(patching)));
    assert!(
        own.iter().zip(&other).any(|(own, other)| apart(&own.1, &other.1) > 1.0),
        "other edits are drawn"
    );
    for (name, why) in SEES_AXES.iter().chain(SEES_NAMES).chain(SEES_ORDER) {
        assert!(named(name).is_some(), "{name}: {why}");
    }
}

#[test]
fn passes_of_another_size_change_no_number_of_routes_and_paths() {
    same_in_other_passes(Group::Routing);
    same_in_other_passes(Group::Paths);
}

#[test]
fn passes_of_another_size_change_no_number_of_representations() {
    same_in_other_passes(Group::Representation);
}

#[test]
fn passes_of_another_size_change_no_number_of_weights_and_lenses() {
    same_in_other_passes(Group::Weights);
    same_in_other_passes(Group::Lenses);
}

#[test]
fn passes_of_another_size_change_no_number_of_interventions() {
    same_in_other_passes(Group::Causal);
}

#[test]
fn passes_of_another_size_change_no_number_of_practice() {
    same_in_other_passes(Group::Practice);
}
