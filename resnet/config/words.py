"""Maps words from other programs to our keys. This is the only such list."""

from collections.abc import Mapping

# Our key: their words. A lookup uses the last part of the word and ignores case: trainer.max_epochs is found by max_epochs.
_OURS = {
    "lr": "learning_rate learningrate base_lr init_lr initial_lr max_lr peak_lr step_length",
    "epochs": "epoch max_epochs num_epochs n_epochs nb_epochs num_train_epochs total_epochs",
    "max_steps": "steps num_steps iterations num_iterations max_iter max_iters total_steps train_steps",
    "batch_size": "batchsize batch bs train_batch_size mini_batch_size minibatch_size per_device_train_batch_size",
    "accumulate": "accumulate_grad_batches gradient_accumulation_steps grad_accum accum_steps",
    "limit_batches": "limit_train_batches limit_val_batches fast_dev_run",
    "seed": "random_seed manual_seed random_state rng",
    "loss": "criterion loss_fn loss_function loss_type objective_function",
    "loss.smoothing": "label_smoothing smoothing",
    "loss.class_weights": "class_weight pos_weight",
    "choose_by": "objective monitor metric_for_best_model best_metric",
    "metrics": "metric eval_metrics",
    "clip_grad_norm": "grad_clip gradient_clip gradient_clip_val clip clip_norm max_norm max_grad_norm clip_grad",
    "ema": "ema_decay model_ema swa",
    "eval_every": "eval_interval val_interval eval_steps val_every check_val_every_n_epoch validate_every",
    "early_stop": "early_stopping earlystopping patience early_stopping_patience",
    "log_every": "log_interval log_every_n_steps print_freq print_every logging_steps log_freq",
    "checkpoint.every_steps": "save_every save_steps save_interval save_freq checkpoint_interval every_n_train_steps",
    "deterministic": "reproducible cudnn_deterministic",
    "name": "exp_name run_name experiment_name job_name output_dir output out out_dir outdir save_dir log_dir logdir results_dir work_dir",
    "experiment": "config config_file cfg exp preset recipe",
    "model": "arch architecture net network backbone model_name model_type",
    "model.layers": "depth num_layers n_layers num_blocks n_blocks blocks blocks_per_stage stages layer",
    "model.width": "hidden_size hidden_dim num_filters filters base_width num_channels planes",
    "model.block": "block_type",
    "model.activation": "act act_layer activation_fn nonlinearity",
    "model.norm": "norm_layer normalization normalisation batch_norm batchnorm bn",
    "model.shortcut": "shortcuts skip skip_connection skip_connections residual downsample",
    "model.init": "initialization initialisation weight_init init_type",
    "model.dropout": "drop drop_rate dropout_rate dropout_p",
    "model.stochastic_depth": "drop_path drop_path_rate survival_prob",
    "model.weights": "pretrained pretrained_path weights_path init_checkpoint load_weights load_from",
    "data": "dataset dataset_name data_set datamodule",
    "data.root": "data_dir datadir data_root data_folder dataset_dir",
    "data.path": "data_path dataset_path image_dir",
    "data.workers": "num_workers n_workers nworkers workers_per_gpu dataloader_num_workers",
    "data.val_size": "val_split val_ratio val_fraction validation_split validation_size valid_size n_val val",
    "data.train_size": "num_samples num_train subset max_train_samples n_train",
    "data.image_size": "img_size imgsz input_size resolution",
    "augment": "augmentation augmentations aug transform transforms data_augmentation",
    "optimizer": "optim opt solver optimiser optimizer_name",
    "optimizer.weight_decay": "wd decay l2 weightdecay l2_reg",
    "optimizer.momentum": "mom beta",
    "scheduler": "lr_scheduler sched schedule lr_schedule scheduler_name lr_policy",
    "fabric.accelerator": "device cuda use_cuda gpu use_gpu no_cuda cpu mps",
    "fabric.devices": "gpus num_gpus n_gpus n_gpu ngpu ngpus gpu_ids num_devices nproc_per_node num_processes",
    "fabric.num_nodes": "nodes nnodes n_nodes",
    "fabric.strategy": "ddp distributed",
    "fabric.precision": "amp use_amp fp16 bf16 half mixed_precision dtype autocast",
    "wandb": "logger loggers use_wandb wandb_mode tensorboard",
    "wandb.project": "wandb_project project_name",
    "wandb.entity": "wandb_entity team",
    "wandb.tags": "tag",
    "hydra/launcher": "launcher",
    "hydra/sweeper": "sweeper",
    "hydra/sweeper/sampler": "sampler",
    "hydra.launcher.n_jobs": "n_jobs num_jobs jobs",
    "hydra.sweeper.n_trials": "n_trials num_trials trials",
}
OURS: Mapping[str, str] = {word: key for key, words in _OURS.items() for word in words.split()}

_OPTIONS = {  # options of groups and values of keys
    "gpu": "cuda",
    "auto": "mps",
    "plateau": "reducelronplateau",
    "cosine": "warmupcosine",
    "32-true": "32 fp32 float32 float",
    "16-mixed": "16 fp16 float16 half",
    "bf16-mixed": "bf16 bfloat16",
    "64-true": "64 fp64 float64 double",
    "silu": "swish",
    "he": "kaiming kaimingnormal msra",
    "batch": "bn",
    "group": "gn",
    "zero_pad": "a optiona identity",
    "projection_1x1": "b optionb conv1x1 1x1",
    "projection_3x3": "conv3x3 3x3",
    "projection_all": "c optionc",
}
OPTIONS: Mapping[str, str] = {word: option for option, words in _OPTIONS.items() for word in words.split()}

_ADVICE = {
    "augmentation is a list of operations: augment=flip, or in a file augment: [{_target_: flip, p: 0.5}]": (
        "hflip horizontal_flip random_flip crop_size random_crop mixup_alpha cutmix_alpha mixup cutmix cutout randaugment trivialaugment"
    ),
    "python -m resnet resume RUN goes on with a run, and model.weights=RUN starts a new one from its weights": (
        "resume resume_from resume_path resume_from_checkpoint ckpt ckpt_path checkpoint_path load_checkpoint"
    ),
    "it follows from the data": "num_classes n_classes nb_classes classes in_channels input_channels",
    "it is a callback now: callbacks=[grad_norm,activation_stats,update_ratio], callbacks.grad_norm.every=100": (
        "probes probe probe_every grad_norm activation_stats update_ratio"
    ),
    "it is a callback now: callbacks=profile": "profile profiler",
    "callbacks=[NAME] chooses one that is built in, +callbacks.NAME._target_=module.Class adds your own": "callback hook hooks",
    "python -m resnet evaluate RUN judges a run": "evaluate eval eval_only test test_only",
    "python -m resnet predict RUN IMAGE names the class of an image": "predict inference infer",
    "python -m resnet export RUN writes a run's model": "export onnx",
    "python -m resnet compare DIR sets runs side by side": "compare",
    "python -m resnet describe key=value shows what would be trained": "describe",
    "python train.py --help shows what there is": "help usage",
    "python train.py --version shows the versions": "version",
    "python train.py alone trains; key=value changes something": "train fit run",
}
ADVICE: Mapping[str, str] = {word: advice for advice, words in _ADVICE.items() for word in words.split()}

_SMALL = "the networks here are for small images"
IMAGENET: Mapping[str, str] = {  # blocks per stage and block type of He et al. 2015's ImageNet networks
    f"resnet{layers}": f"{_SMALL}; these have its blocks: model=resnet {settings} model.width=64"
    for layers, settings in {
        18: "'model.layers=[2,2,2,2]'",
        34: "'model.layers=[3,4,6,3]'",
        50: "'model.layers=[3,4,6,3]' model.block=bottleneck",
        101: "'model.layers=[3,4,23,3]' model.block=bottleneck",
        152: "'model.layers=[3,8,36,3]' model.block=bottleneck",
    }.items()
}
