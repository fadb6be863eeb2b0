class Config:
    """Its settings are for HTTP, which the host does not need."""

    def __init__(self, *arguments, **keywords):
        self.__dict__.update(keywords)

    def merge(self, other):
        return Config(**{**self.__dict__, **other.__dict__})
