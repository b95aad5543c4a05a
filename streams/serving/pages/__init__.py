"""The pages of `clv serve`: HTML that works before scripts run, and without any from elsewhere.

`routes.py`: their addresses, who may see them, and what they show while a server is away;
`overview.py`, `lists.py`, `customer.py`, `others.py`: what each shows; `service.py`: what two of
them show of the workers; `charts.py`: geometry of
the charts; `words.py`: numbers and times as people write them; `templates/`, `static/`: HTML, CSS
and two small scripts.
"""
