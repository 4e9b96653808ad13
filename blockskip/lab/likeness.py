def read(run):
    return {"by_step": {}, "best_step": None, "advice": "stub"}
