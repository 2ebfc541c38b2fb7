//! What published scaling laws expect of granularity, as functions, so that measured models can stand beside them.
//!
//! Laws are fits to models far larger than those of a study. Below their range they are extrapolations: a yardstick to compare with, and no null.

/// Loss by the law of Krajewski, Ludziejewski et al. 2024 (arXiv 2402.07871) for 64 times as many experts as are used at granularity 1.
///
/// - **Shape:** `parameters` are all but embeddings, every expert included; `tokens` those of training; `granularity` is that of Warsaw, `d_ff` over the
///   width of an expert.
/// - **Unit:** nats per token of C4.
/// - **Range:** fitted to 129 million to 3.7 billion parameters, 16 to 130 billion tokens, granularity 1 to 16; root mean square error 0.015.
/// - **Does not show:** other shares of active experts, other texts, nor where finer experts stop paying: this law falls without end.
pub fn granularity_loss(parameters: f64, tokens: f64, granularity: f64) -> f64 {
    const FLOOR: f64 = 0.47;
    let (of_parameters, of_tokens) = (18.1, 30.8 / tokens.powf(0.147));
    FLOOR + (coarseness(granularity) + of_parameters) / parameters.powf(SIZE) + of_tokens
}

/// By how much that law expects a loss to be lower than at granularity 1, other things equal; nats per token, below 0 for coarser experts.
pub fn granularity_gain(parameters: f64, granularity: f64) -> f64 {
    (coarseness(1.0) - coarseness(granularity)) / parameters.powf(SIZE)
}

/// Power of the parameters in that law.
const SIZE: f64 = 0.115;

fn coarseness(granularity: f64) -> f64 {
    2.1 / granularity.powf(0.58)
}

/// Operations of training by the count of the same paper, router included.
///
/// - **Shape:** `width` is that of the stream, with a block for each 64 of it; 64 experts times the granularity.
/// - **Unit:** floating-point operations.
pub fn granularity_operations(width: f64, tokens: f64, granularity: f64) -> f64 {
    const EXPANSION: f64 = 64.0;
    let (weights, routers) = (12.0 * width * width * 6.0, width * EXPANSION * granularity * 14.0);
    (weights + routers) * tokens * (width / 64.0)
}

/// Times as much compute that a dense model would take for the same loss, by the law of Ling (arXiv 2507.17702).
///
/// - **Shape:** `active` is the share of experts that a token uses, shared ones included; `granularity` is twice the width of the stream over that of an expert,
///   half of [`granularity_loss`]'s; `operations` those of training.
/// - **Unit and range:** a factor, above 0. Fitted from 3e17 operations on.
/// - **Does not show:** which granularity is best elsewhere: here it is about 12, while the law above falls without end. The bases of the logarithms are
///   not printed; two for the granularity and ten for the operations give the printed results.
pub fn efficiency_leverage(active: f64, granularity: f64, operations: f64) -> f64 {
    const START: f64 = 1.63e-2;
    const MOST: f64 = 5.28e16;
    let saturated = 1.0 / (1.0 / (active + 1.0 / (1.0 / START - 1.0 / MOST)) + 1.0 / MOST);
    let finer = granularity.log2();
    let power = 1.23 - 7.61e-2 * operations.log10() + 1.67e-2 * finer * finer - 1.17e-1 * finer;
    saturated.powf(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Active parameters, tokens, best granularity, operations and loss of table 2 of arXiv 2402.07871.
    const TABLE: [(f64, f64, f64, f64, f64); 7] = [
        (1e8, 4.37e9, 8.0, 2.95e18, 3.133),
        (1e9, 28.94e9, 16.0, 1.93e20, 2.491),
        (3e9, 72.9e9, 16.0, 1.41e21, 2.245),
        (7e9, 137.6e9, 32.0, 6.46e21, 2.076),
        (7e10, 941e9, 32.0, 4.16e23, 1.694),
        (3e11, 2.96e12, 64.0, 5.69e24, 1.503),
        (1e12, 7.94e12, 64.0, 4.97e25, 1.367),
    ];

    #[test]
    fn the_losses_of_the_printed_table_come_out() {
        for (active, tokens, granularity, _, loss) in TABLE {
            // Attention once and the layer 64 times: 43 times the active parameters.
            let found = granularity_loss(43.0 * active, tokens, granularity);
            assert!((found - loss).abs() <= 0.025, "{active}: {found} and {loss}");
        }
    }

    #[test]
    fn the_operations_of_the_printed_table_come_out() {
        for (active, tokens, granularity, operations, _) in TABLE {
            // `active = 12 width² · width / 64`.
            let width = (active * 64.0 / 12.0).cbrt();
            let found = granularity_operations(width, tokens, granularity);
            assert!((found / operations - 1.0).abs() <= 0.01, "{active}: {found:e} and {operations:e}");
        }
    }

    #[test]
    fn finer_experts_are_expected_to_gain_what_the_law_says() {
        for (parameters, gains) in
            [(2e6, [0.131, 0.219, 0.277, 0.317]), (129e6, [0.081, 0.135, 0.172, 0.196])]
        {
            for (granularity, gain) in [2.0, 4.0, 8.0, 16.0].into_iter().zip(gains) {
                let found = granularity_gain(parameters, granularity);
                assert!((found - gain).abs() < 6e-4, "{parameters} {granularity}: {found} and {gain}");
                let losses = [1.0, granularity].map(|g| granularity_loss(parameters, 1e9, g));
                assert!((losses[0] - losses[1] - found).abs() < 1e-12);
            }
        }
        assert_eq!(granularity_gain(1e6, 1.0), 0.0);
    }

    #[test]
    fn the_leverage_is_seven_where_it_is_printed_and_best_at_twelve() {
        assert!((efficiency_leverage(0.031, 12.0, 1e22) - 7.24).abs() < 0.05);
        let best = (10..400).map(|tenth| f64::from(tenth) / 10.0).max_by(|a, b| {
            efficiency_leverage(0.031, *a, 1e22).total_cmp(&efficiency_leverage(0.031, *b, 1e22))
        });
        assert!((best.unwrap() - 11.3).abs() < 0.1, "{best:?}");
        let smaller = [(1e15, 1.43), (1e16, 1.80), (1e17, 2.27), (1e18, 2.86)];
        assert!(
            smaller.iter().all(|(c, wanted)| (efficiency_leverage(0.031, 12.0, *c) - wanted).abs() < 0.01)
        );
    }
}
