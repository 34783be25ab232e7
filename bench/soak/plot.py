"""placeholder"""
def draw(document, path):
    pass
