"""Graph passes on Relax: clean-ups and fusions, before TVM's own lowering."""
