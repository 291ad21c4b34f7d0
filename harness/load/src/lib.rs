//! Open- and closed-loop HTTP load generator.
