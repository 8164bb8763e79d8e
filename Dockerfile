# predict, serve and the other commands that need no PyTorch, on a CPU: docker build -t pocketseg .   (docs/deploy.md)
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY CMakeLists.txt LICENSE README.md pyproject.toml ./
COPY native native
COPY src src
RUN python -m venv /opt/pocketseg && /opt/pocketseg/bin/pip install --no-cache-dir ".[serve,medical]"

FROM python:3.12-slim
COPY --from=build /opt/pocketseg /opt/pocketseg
RUN useradd --uid 10001 --create-home pocketseg
USER 10001
# Where the folder of models and images is mounted.
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["/opt/pocketseg/bin/pocketseg"]
CMD ["--help"]
