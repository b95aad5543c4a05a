"""Rules for which it does not matter what a customer was before."""

from models.segments import Rules


def without_memory(rules: Rules) -> Rules:
    """Return the same rules with the bounds to enter alone."""
    document = rules.model_dump()
    for each in document["dimensions"]:
        for rule in each["rules"]:
            rule["stay_days"] = 0
            for condition in (*rule["all"], *rule["any"]):
                condition["leave"] = None
    return Rules.model_validate(document)
