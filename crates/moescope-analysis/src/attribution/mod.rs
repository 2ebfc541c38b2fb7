//! Attribution: gradient × difference against the true effect of an edit, with flips of routes counted.
