"""From margins to a posterior: kernel, likelihood, priors, model, fitting, risks."""
