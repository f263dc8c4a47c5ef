# The program with everything that a user may want, in an image of its own:
#     docker build -t detr-jittor .
#     docker run --rm -v "$PWD":/work -v detr-cache:/home/detr/.cache detr-jittor predict --weights detr-r50 --output_dir found photo.jpg
#     docker run --rm -p 127.0.0.1:7860:7860 -v detr-cache:/home/detr/.cache detr-jittor app --host 0.0.0.0 --port 7860 --no_browser
# /work is the folder of yours that is seen there; user 1000 must be allowed to write into it, and owns what is written.
# The volume keeps downloaded weights and compiled operators.
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheels

FROM python:3.11-slim-bookworm
# g++ stays: Jittor compiles an operator at its first use
RUN apt-get update && apt-get install -y --no-install-recommends g++ fonts-noto-cjk && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[export,video,app]" && rm -r /wheels
# A user of its own, whose home holds Jittor's cache; the core is compiled here, once.
RUN useradd --create-home --uid 1000 detr && mkdir /work && chown detr /work
USER detr
RUN detr-jittor doctor
WORKDIR /work
ENTRYPOINT ["detr-jittor"]
CMD ["--help"]
