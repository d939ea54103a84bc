# docker build -t secateur . && docker run --init --ipc=host -v $PWD:/work secateur search --recipe search.yaml
# --ipc=host: workers share images in memory, of which Docker gives 64 MiB; with GPUs also --gpus all
FROM python:3.11-slim
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt torch==2.13.0 \
    && pip install --no-cache-dir --constraint constraints.txt ".[data,search]"
WORKDIR /work
ENTRYPOINT ["secateur"]
CMD ["--help"]
