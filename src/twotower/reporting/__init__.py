"""Tables, charts and pages made from results files."""
