"""A model of everything: trained once a model with held-out items has been judged."""
